"""Code signing configurations: kept and given back as on AWS. As nobody but AWS can check a signature of its Signer, all code counts as not
signed: where a configuration enforces, none is taken; where it warns, all is."""

import boto3
from botocore.config import Config

from support import ACCOUNT, ARN, ECHO, LAMBDA, REGION, ROLE, Case, aws, package

# Given as they are: what AWS takes is AWS's to say.
CLIENT = boto3.client("lambda", config=Config(retries={"max_attempts": 0}, read_timeout=60, parameter_validation=False))

PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/test"
NOWHERE = f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-0123456789abcdefg"
NOT_SIGNED = (
    "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not configured to accept. "
    "Check the provided signature for {}."
)


class CodeSigning(Case):
    def config(self, policy="Warn", **settings):
        given = {
            "AllowedPublishers": {"SigningProfileVersionArns": [PROFILE]},
            "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": policy}, **settings,
        }
        answer = LAMBDA.create_code_signing_config(**given)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 201)
        made = answer["CodeSigningConfig"]
        self.addCleanup(self.forget, made["CodeSigningConfigArn"])
        return made

    def forget(self, arn):
        """Cleanups run last made first: its functions may be there still."""
        try:
            for function in LAMBDA.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)["FunctionArns"]:
                LAMBDA.delete_function_code_signing_config(FunctionName=function)
            LAMBDA.delete_code_signing_config(CodeSigningConfigArn=arn)
        except LAMBDA.exceptions.ResourceNotFoundException:
            pass

    def test_as_aws_was_recorded(self):
        name = self.function()
        made = self.config("Enforce", Description="Testing CodeSigning Config")
        arn, id = made["CodeSigningConfigArn"], made["CodeSigningConfigId"]
        self.assertRegex(id, "^csc-[a-z0-9]{17}$")
        self.assertRegex(made.pop("LastModified"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$")
        wanted = {
            "AllowedPublishers": {"SigningProfileVersionArns": [PROFILE]},
            "CodeSigningConfigArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:{id}",
            "CodeSigningConfigId": id,
            "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Enforce"},
            "Description": "Testing CodeSigning Config",
        }
        self.assertEqual(made, wanted)
        updated = LAMBDA.update_code_signing_config(
            CodeSigningConfigArn=arn, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Warn"}
        )["CodeSigningConfig"]
        wanted["CodeSigningPolicies"] = {"UntrustedArtifactOnDeployment": "Warn"}
        wanted["LastModified"] = updated["LastModified"]
        self.assertEqual(updated, wanted)
        self.assertEqual(LAMBDA.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"], wanted)
        put = LAMBDA.put_function_code_signing_config(CodeSigningConfigArn=arn, FunctionName=name)
        del put["ResponseMetadata"]
        self.assertEqual(put, {"CodeSigningConfigArn": arn, "FunctionName": name})
        self.assertEqual(aws("get-function-code-signing-config", "--function-name", name), put)
        self.config()
        pages = LAMBDA.get_paginator("list_code_signing_configs").paginate(PaginationConfig={"PageSize": 1})
        self.assertIn(wanted, pages.build_full_result()["CodeSigningConfigs"])
        listed = aws("list-functions-by-code-signing-config", "--code-signing-config-arn", arn)
        self.assertEqual(listed, {"FunctionArns": [ARN + name]})
        # Nothing is shown of it with the function: it is not signed.
        shown = LAMBDA.get_function_configuration(FunctionName=name)
        self.assertFalse(set(shown) & {"SigningProfileVersionArn", "SigningJobArn", "CodeSigningConfigArn"})
        message = self.refused("ResourceConflictException", 409, LAMBDA.delete_code_signing_config, CodeSigningConfigArn=arn)
        self.assertIn(arn, message)
        for _ in range(2):
            gone = LAMBDA.delete_function_code_signing_config(FunctionName=name)
            self.assertEqual(gone["ResponseMetadata"]["HTTPStatusCode"], 204)
        gone = LAMBDA.delete_code_signing_config(CodeSigningConfigArn=arn)
        self.assertEqual(gone["ResponseMetadata"]["HTTPStatusCode"], 204)

    def test_what_is_not_there(self):
        """In the words that AWS was recorded to use."""
        name, there = self.function(), self.config()["CodeSigningConfigArn"]
        words = f"The Lambda code signing configuration {NOWHERE} can not be found."
        for call in (
            LAMBDA.get_code_signing_config, LAMBDA.update_code_signing_config, LAMBDA.delete_code_signing_config,
            LAMBDA.list_functions_by_code_signing_config,
        ):
            self.assertEqual(self.refused("ResourceNotFoundException", 404, call, CodeSigningConfigArn=NOWHERE), words)
        with self.assertRaises(LAMBDA.exceptions.ResourceNotFoundException) as caught:
            LAMBDA.get_code_signing_config(CodeSigningConfigArn=NOWHERE)
        # AWS leaves out whose fault it is.
        self.assertNotIn("Type", caught.exception.response)
        missing = f"The code signing configuration cannot be found. Check that the provided configuration is not deleted: {NOWHERE}."
        for of in (name, "nobody"):
            message = self.refused(
                "CodeSigningConfigNotFoundException", 404, LAMBDA.put_function_code_signing_config, FunctionName=of, CodeSigningConfigArn=NOWHERE
            )
            self.assertEqual(message, missing)
        given = {"FunctionName": "of-nobody", "Role": ROLE, "Code": {"ZipFile": package("")}, "Runtime": "python3.13", "Handler": "app.handler"}
        message = self.refused("CodeSigningConfigNotFoundException", 404, LAMBDA.create_function, CodeSigningConfigArn=NOWHERE, **given)
        self.assertEqual(message, missing)
        for call, more in (
            (LAMBDA.put_function_code_signing_config, {"CodeSigningConfigArn": there}),
            (LAMBDA.get_function_code_signing_config, {}),
            (LAMBDA.delete_function_code_signing_config, {}),
        ):
            message = self.refused("ResourceNotFoundException", 404, call, FunctionName="nobody", **more)
            self.assertEqual(message, f"Function not found: {ARN}nobody")
        got = LAMBDA.get_function_code_signing_config(FunctionName=name)
        del got["ResponseMetadata"]
        self.assertEqual(got, {})
        nobody = LAMBDA.list_functions_by_code_signing_config(CodeSigningConfigArn=there)
        self.assertEqual(nobody["FunctionArns"], [])
        same = LAMBDA.update_code_signing_config(CodeSigningConfigArn=there)["CodeSigningConfig"]
        self.assertEqual(same["CodeSigningPolicies"], {"UntrustedArtifactOnDeployment": "Warn"})

    def test_where_it_enforces_no_code_is_taken(self):
        arn = self.config("Enforce")["CodeSigningConfigArn"]
        refused = ("CodeVerificationFailedException", 400)
        new = self.name()
        given = {"Role": ROLE, "Code": {"ZipFile": package(ECHO)}, "Runtime": "python3.13", "Handler": "app.handler"}
        message = self.refused(*refused, LAMBDA.create_function, FunctionName=new, CodeSigningConfigArn=arn, **given)
        self.assertEqual(message, NOT_SIGNED.format(new))
        self.refused("ResourceNotFoundException", 404, LAMBDA.get_function, FunctionName=new)

        name = self.function()
        LAMBDA.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=arn)
        other = package("def handler(event, context):\n    return 'other'\n")
        for more in ({}, {"DryRun": True}):
            message = self.refused(*refused, LAMBDA.update_function_code, FunctionName=name, ZipFile=other, **more)
            self.assertEqual(message, NOT_SIGNED.format(name))
        # What it has goes on, and what is no code is changed.
        LAMBDA.update_function_configuration(FunctionName=name, Description="another")
        self.assertEqual(self.call(name, {"a": 1})[0], {"a": 1})
        layer = LAMBDA.publish_layer_version(LayerName=f"l-{name}", Content={"ZipFile": package("")})
        self.addCleanup(LAMBDA.delete_layer_version, LayerName=f"l-{name}", VersionNumber=1)
        layers = {"FunctionName": name, "Layers": [layer["LayerVersionArn"]]}
        self.refused(*refused, LAMBDA.update_function_configuration, **layers)

        LAMBDA.update_code_signing_config(CodeSigningConfigArn=arn, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Warn"})
        LAMBDA.update_function_code(FunctionName=name, ZipFile=other)
        self.assertEqual(self.call(name, {"a": 1})[0], "other")
        LAMBDA.update_function_configuration(**layers)
        self.function(FunctionName=new, CodeSigningConfigArn=arn)
        self.assertEqual(LAMBDA.get_function_code_signing_config(FunctionName=new)["CodeSigningConfigArn"], arn)

    def test_one_has_tags(self):
        arn = self.config(Tags={"team": "a"})["CodeSigningConfigArn"]
        LAMBDA.tag_resource(Resource=arn, Tags={"stage": "b"})
        self.assertEqual(LAMBDA.list_tags(Resource=arn)["Tags"], {"team": "a", "stage": "b"})
        LAMBDA.untag_resource(Resource=arn, TagKeys=["team"])
        self.assertEqual(LAMBDA.list_tags(Resource=arn)["Tags"], {"stage": "b"})

    def test_what_is_wrong_with_one(self):
        for publishers, words in (
            ([], "Member must have length greater than or equal to 1"),
            ([PROFILE] * 21, "Member must have length less than or equal to 20"),
            (["profile"], "Member must satisfy regular expression pattern: arn:"),
        ):
            message = self.refused(
                "ValidationException", 400, CLIENT.create_code_signing_config, AllowedPublishers={"SigningProfileVersionArns": publishers}
            )
            self.assertIn("'allowedPublishers.signingProfileVersionArns' failed", message)
            self.assertIn(words, message)
