"""Every constraint that AWS's model puts on a request: what breaks one is refused in AWS's words, and nothing is changed."""

import json
import re

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from support import ARN, ACCOUNT, LAMBDA, REGION, ROLE, Case, package
from test_operations import documented

# Given as they are: what AWS takes is AWS's to say.
CLIENT = boto3.client("lambda", config=Config(retries={"max_attempts": 0}, read_timeout=60, parameter_validation=False))
MODEL = CLIENT.meta.service_model
INVALID = "InvalidParameterValueException"
# Where AWS was recorded to say something else than its model of today, or Hearth has reasons to: the exception, and what it says.
OTHERWISE = {
    # Longer lists than those of the recordings, and limits that AWS has for other functions than these.
    "Resource": ("ValidationException", "at 'resource' failed"),
    "Arn": ("ValidationException", "at 'arn' failed"),
    "Timeout": ("ValidationException", "at 'timeout' failed"),
    "MemorySize": ("ValidationException", "at 'memorySize' failed"),
    "EphemeralStorage.Size": ("ValidationException", "at 'ephemeralStorage.size' failed"),
    "Runtime": (INVALID, "at 'runtime' failed"),
    # What no function here can have.
    **{
        name: (INVALID, f"{name} is not supported")
        for name in ("TenancyConfig", "CapacityProviderConfig", "DurableConfig", "RuntimeConfig", "AcceleratorConfig")
    },
}
# Of these there are none, whatever else is said.
NOWHERE = {
    "UpdateCapacityProvider", "PauseDurableExecution", "ResumeDurableExecution",
    "StopDurableExecution",
}
LONGEST = 20_000


def camel(path):
    return ".".join(name[0].lower() + name[1:] for name in path)


def wrong(shape):
    """Values that break one constraint each, and what AWS says about them."""
    data = shape.metadata
    if shape.type_name == "string":
        if shape.enum:
            yield "Nonesuch", "Member must satisfy enum value set: ["
            return
        if data.get("max", LONGEST) < LONGEST:
            yield "a" * (data["max"] + 1), f"Member must have length less than or equal to {data['max']}"
        pattern = data.get("pattern")
        if pattern and not re.fullmatch(pattern, "a b!"):
            yield "a b!", f"Member must satisfy regular expression pattern: {pattern}"
    elif shape.type_name in ("integer", "long"):
        if "max" in data:
            yield data["max"] + 1, f"Member must have value less than or equal to {data['max']}"
        if "min" in data:
            yield data["min"] - 1, f"Member must have value greater than or equal to {data['min']}"


def members(shape, path=()):
    for name, member in shape.members.items():
        if member.type_name == "structure":
            yield from members(member, (*path, name))
        else:
            yield (*path, name), member


class Constraints(Case):
    def setUp(self):
        self.fn = self.function()
        LAMBDA.publish_version(FunctionName=self.fn)
        LAMBDA.create_alias(FunctionName=self.fn, Name="live", FunctionVersion="1")
        self.layer = f"l-{self.fn}"
        LAMBDA.publish_layer_version(LayerName=self.layer, Content={"ZipFile": package("")})
        self.addCleanup(LAMBDA.delete_layer_version, LayerName=self.layer, VersionNumber=1)

    def good(self, operation):
        """All that it wants, each of them good."""
        layer = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{self.layer}"
        known = {
            "FunctionName": self.fn, "Name": "other" if operation == "CreateAlias" else "live", "FunctionVersion": "1", "Qualifier": "live",
            "LayerName": self.layer, "VersionNumber": 1, "StatementId": "s", "Principal": "*", "Arn": f"{layer}:1",
            "Action": "lambda:GetLayerVersion" if "Layer" in operation else "lambda:InvokeFunction",
            "Resource": ARN + self.fn, "ResourceArn": ARN + self.fn, "Policy": json.dumps({"Statement": []}), "Tags": {"a": "b"}, "TagKeys": ["a"], "UUID": "01234567-0123-4123-8123-0123456789ab",
            "AuthType": "NONE", "UpdateRuntimeOn": "Auto", "RecursiveLoop": "Allow", "ReservedConcurrentExecutions": 1,
            "ProvisionedConcurrentExecutions": 1, "InvokeArgs": b"{}", "Role": ROLE, "Code": {"ZipFile": package("")},
            "Content": {"ZipFile": package("")}, "MaximumRetryAttempts": 1,
            "CodeSigningConfigArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-0123456789abcdefg",
            "CapacityProviderName": "p",
            "AllowedPublishers": {"SigningProfileVersionArns": [f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p/v"]},
            "DurableExecutionArn": f"{ARN}{self.fn}:1/durable-execution/a/b",
        }
        shape = MODEL.operation_model(operation).input_shape
        given = {name: known[name] for name in shape.required_members if name != "Code"}
        if operation == "CreateFunction":
            given |= {"FunctionName": self.fn + "-2", "Runtime": "python3.13", "Handler": "app.handler", "Code": known["Code"]}
        return given

    def stands(self):
        """What must stay as it is."""
        function = LAMBDA.get_function(FunctionName=self.fn)
        del function["ResponseMetadata"], function["Code"]
        return (
            function,
            LAMBDA.list_aliases(FunctionName=self.fn)["Aliases"],
            LAMBDA.list_function_url_configs(FunctionName=self.fn)["FunctionUrlConfigs"],
            LAMBDA.list_layer_versions(LayerName=self.layer)["LayerVersions"],
            LAMBDA.list_functions()["Functions"],
            LAMBDA.list_code_signing_configs()["CodeSigningConfigs"],
        )

    def test_each_of_them(self):
        before = self.stands()
        self.assertGreater(self.each(), 250)
        self.assertEqual(self.stands(), before)

    def test_they_come_before_the_question_what_there_is(self):
        self.fn, self.layer = "of-nobody", "l-of-nobody"
        # But for runtimes, which AWS tells apart by more than their names.
        self.each({"Runtime"})

    def each(self, but=()):
        """How many there are; each is refused."""
        seen = 0
        for operation, here in documented().items():
            shape = MODEL.operation_model(operation).input_shape
            if here == "no" or shape is None or operation in NOWHERE:
                continue
            call = getattr(CLIENT, xform_name(operation))
            for path, member in members(shape):
                for value, says in wrong(member) if path[0] not in but else ():
                    with self.subTest(operation, member=".".join(path), value=str(value)[:20]):
                        given = self.good(operation)
                        at = given
                        for name in path[:-1]:
                            at[name] = dict(at.get(name, {}))
                            at = at[name]
                        at[path[-1]] = value
                        with self.assertRaises(ClientError) as caught:
                            call(**given)
                        error = caught.exception.response
                        says = f"at '{camel(path)}' failed to satisfy constraint: {says}"
                        kind, says = OTHERWISE.get(".".join(path)) or OTHERWISE.get(path[0]) or ("ValidationException", says)
                        got = error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]
                        self.assertEqual(got, (kind, 400), error["Error"]["Message"][:400])
                        self.assertIn(says, error["Error"]["Message"])
                        seen += 1
        return seen

    def test_nothing_in_a_list_or_a_map(self):
        for path, value, says in (
            (("VpcConfig", "SubnetIds"), ["subnet-1", None], "Value '[subnet-1, null]' at 'vpcConfig.subnetIds'"),
            (("Environment", "Variables"), {"AB": "secret", "CD": None}, "Value at 'environment.variables'"),
        ):
            given = {"FunctionName": self.fn, path[0]: {path[1]: value}}
            message = self.refused("ValidationException", 400, CLIENT.update_function_configuration, **given)
            self.assertIn(says, message)
            self.assertIn("Member must not be null]", message)
            self.assertNotIn("secret", message)
        given = {"Resource": ARN + self.fn, "Tags": {"a": "b", "c": None}}
        message = self.refused("ValidationException", 400, CLIENT.tag_resource, **given)
        self.assertEqual(
            message,
            "1 validation error detected: Value '{a=b, c=null}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: [Member must not be null]",
        )

    def test_networks_have_names(self):
        """As AWS was recorded."""
        for field, name, pattern in (("SubnetIds", "subnet_1", "subnet-[0-9a-z]*"), ("SecurityGroupIds", "sg-1!", "sg-[0-9a-zA-Z]*")):
            given = {"FunctionName": self.fn, "VpcConfig": {field: [name]}}
            message = self.refused("ValidationException", 400, CLIENT.update_function_configuration, **given)
            self.assertEqual(
                message,
                f"1 validation error detected: Value '[{name}]' at 'vpcConfig.{field[0].lower()}{field[1:]}' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: {pattern}]",
            )

    def test_what_a_package_would_be_encrypted_with(self):
        key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k"
        LAMBDA.update_function_code(FunctionName=self.fn, ZipFile=package("x = 1"), SourceKMSKeyArn=key)
        self.assertEqual(LAMBDA.get_function(FunctionName=self.fn)["Code"]["SourceKMSKeyArn"], key)
        LAMBDA.update_function_code(FunctionName=self.fn, ZipFile=package("x = 2"))
        self.assertNotIn("SourceKMSKeyArn", LAMBDA.get_function(FunctionName=self.fn)["Code"])
