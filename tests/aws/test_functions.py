"""Making, reading, changing and deleting functions."""

import base64
import hashlib
import io
import re
import textwrap
import urllib.error
import urllib.request
import zipfile

from support import ACCOUNT, ARN, ECHO, LAMBDA, REGION, ROLE, Case, client, native, package


class Making(Case):
    def test_the_answer_is_pending_and_then_it_is_active(self):
        name = self.name()
        made = LAMBDA.create_function(
            FunctionName=name, Runtime="python3.13", Role=ROLE, Handler="app.handler", Code={"ZipFile": package(ECHO)}
        )
        self.assertEqual(made["ResponseMetadata"]["HTTPStatusCode"], 201)
        self.assertEqual(made["State"], "Pending")
        self.assertEqual(made["StateReasonCode"], "Creating")
        LAMBDA.get_waiter("function_active_v2").wait(FunctionName=name)
        now = LAMBDA.get_function_configuration(FunctionName=name)
        self.assertEqual((now["State"], now["LastUpdateStatus"]), ("Active", "Successful"))
        self.assertNotEqual(now["RevisionId"], made["RevisionId"])
        self.assertNotIn("StateReason", now)

    def test_the_document_has_what_awss_has(self):
        name = self.function()
        zip_bytes = package(ECHO)
        got = LAMBDA.get_function_configuration(FunctionName=name)
        got.pop("ResponseMetadata")
        stamp, revision = got.pop("LastModified"), got.pop("RevisionId")
        runtime = got.pop("RuntimeVersionConfig")
        self.assertRegex(stamp, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$")
        self.assertRegex(revision, r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        self.assertRegex(runtime["RuntimeVersionArn"], r"^arn:aws:lambda:[a-z0-9-]+::runtime:[0-9a-f]{64}$")
        self.assertIn(got.pop("Architectures"), (["x86_64"], ["arm64"]))
        self.assertEqual(
            got,
            {
                "FunctionName": name,
                "FunctionArn": ARN + name,
                "Runtime": "python3.13",
                "Role": ROLE,
                "Handler": "app.handler",
                "CodeSize": len(zip_bytes),
                "CodeSha256": base64.b64encode(hashlib.sha256(zip_bytes).digest()).decode(),
                "Description": "",
                "Timeout": 3,
                "MemorySize": 128,
                "Version": "$LATEST",
                "TracingConfig": {"Mode": "PassThrough"},
                "PackageType": "Zip",
                "State": "Active",
                "LastUpdateStatus": "Successful",
                "EphemeralStorage": {"Size": 512},
                "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
                "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
            },
        )

    def test_settings_nobody_needs_are_kept(self):
        name = self.function(
            Description="what it is for",
            Timeout=17,
            MemorySize=192,
            Environment={"Variables": {"GREETING": "hello"}},
            Tags={"team": "a", "cost": "b"},
            TracingConfig={"Mode": "Active"},
            EphemeralStorage={"Size": 1024},
            DeadLetterConfig={"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"},
            VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
            KMSKeyArn="arn:aws:kms:us-east-1:000000000000:key/k",
            SnapStart={"ApplyOn": "None"},
            LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG"},
            Architectures=["arm64"],
        )
        got = LAMBDA.get_function(FunctionName=name)
        self.assertEqual(got["Tags"], {"team": "a", "cost": "b"})
        shown = got["Configuration"]
        for field, value in {
            "Description": "what it is for",
            "Timeout": 17,
            "MemorySize": 192,
            "Environment": {"Variables": {"GREETING": "hello"}},
            "TracingConfig": {"Mode": "Active"},
            "EphemeralStorage": {"Size": 1024},
            "DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"},
            "KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k",
            "Architectures": ["arm64"],
        }.items():
            self.assertEqual(shown[field], value, field)
        self.assertEqual(shown["VpcConfig"]["SubnetIds"], ["subnet-1"])
        self.assertRegex(shown["VpcConfig"]["VpcId"], "^vpc-[0-9a-f]{17}$")
        self.assertEqual(
            shown["LoggingConfig"],
            {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "INFO", "LogGroup": f"/aws/lambda/{name}"},
        )

    def test_runtime_names_stand_for_the_nearest_there_is(self):
        for runtime in ("python3.9", "python3.12", "python3.14"):
            name = self.name()
            made = LAMBDA.create_function(
                FunctionName=name, Runtime=runtime, Role=ROLE, Handler="app.handler", Code={"ZipFile": package(ECHO)}
            )
            self.assertEqual(made["Runtime"], runtime)
            self.assertTrue(made["ResponseMetadata"]["HTTPHeaders"]["x-hearth-runtime"].startswith("python3"))
        self.assertEqual(self.call(name, {"a": 1})[0], {"a": 1})

    def test_the_same_name_twice(self):
        name = self.function()
        message = self.refused("ResourceConflictException", 409, self.function, FunctionName=name)
        self.assertEqual(message, f"Function already exist: {name}")

    def test_what_is_wrong_is_said(self):
        for settings, kind, wanted in [
            ({"Timeout": 901}, "ValidationException", "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900"),
            ({"MemorySize": 128, "Handler": "a b"}, "ValidationException", "Value 'a b' at 'handler'"),
            ({"Role": "nobody"}, "ValidationException", "Value 'nobody' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::"),
            ({"FunctionName": "no such name"}, "ValidationException", "Value 'no such name' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:(aws"),
            ({"FunctionName": "n" * 65}, "InvalidParameterValueException", "at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64"),
            ({"Runtime": "cobol85"}, "InvalidParameterValueException", "Value cobol85 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: ["),
            ({"TracingConfig": {"Mode": "Sometimes"}}, "ValidationException", "at 'tracingConfig.mode'"),
            ({"Architectures": ["mips"]}, "ValidationException", "Value '[mips]' at 'architectures'"),
            ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "InvalidParameterValueException", "Reserved keys used in this request: AWS_REGION"),
            ({"Environment": {"Variables": {"A1": "x" * 5000}}}, "InvalidParameterValueException", "exceeded the 4KB limit"),
            ({"Tags": {"aws:mine": "x"}}, "InvalidParameterValueException", "aws:"),
            ({"PackageType": "Image"}, "InvalidParameterValueException", "Image"),
        ]:
            with self.subTest(settings=settings):
                message = self.refused(kind, 400, self.function, **{"FunctionName": "wrong", **settings})
                self.assertIn(wanted, message)

    def test_two_things_wrong_are_both_said(self):
        message = self.refused("ValidationException", 400, self.function, FunctionName="wrong", Timeout=901, MemorySize=99999)
        self.assertRegex(message, r"^2 validation errors detected: Value '901' at 'timeout' .*; Value '99999' at 'memorySize' ")

    def test_code_that_is_no_zip(self):
        message = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.create_function,
            FunctionName="wrong", Runtime="python3.13", Role=ROLE, Handler="app.handler", Code={"ZipFile": b"this is no zip"},
        )
        self.assertEqual(message, "Could not unzip uploaded file. Please check your file, then try to upload again.")

    def test_code_that_holds_nothing(self):
        message = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.create_function,
            FunctionName="wrong", Runtime="python3.13", Role=ROLE, Handler="app.handler", Code={"ZipFile": package({})},
        )
        self.assertEqual(message, "Uploaded file must be a non-empty zip")

    def test_code_from_elsewhere(self):
        message = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.create_function,
            FunctionName="wrong", Runtime="python3.13", Role=ROLE, Handler="app.handler", Code={"S3Bucket": "code", "S3Key": "key"},
        )
        self.assertIn("S3 Error Code: NoSuchKey", message)
        message = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.update_function_code,
            FunctionName=self.function(), ZipFile=package(ECHO), S3Bucket="bucket", S3Key="key",
        )
        self.assertEqual(message, "Please do not provide other FunctionCode parameters when providing a ZipFile.")

    def test_without_runtime_or_handler(self):
        for left in ("Runtime", "Handler"):
            settings = {"FunctionName": "wrong", "Role": ROLE, "Runtime": "python3.13", "Handler": "app.handler"}
            settings.pop(left)
            message = self.refused(
                "InvalidParameterValueException", 400, LAMBDA.create_function, Code={"ZipFile": package(ECHO)}, **settings
            )
            self.assertIn("mandatory", message)


class Reading(Case):
    def test_by_every_name_there_is(self):
        name = self.function()
        for called in (name, f"function:{name}", f"{ACCOUNT}:{name}", f"{ACCOUNT}:function:{name}", ARN + name):
            got = LAMBDA.get_function(FunctionName=called)["Configuration"]
            self.assertEqual(got["FunctionArn"], ARN + name, called)
        for parameters in ({"FunctionName": name, "Qualifier": "$LATEST"}, {"FunctionName": f"{ARN}{name}:$LATEST"}):
            got = LAMBDA.get_function(**parameters)["Configuration"]
            self.assertEqual(got["FunctionArn"], f"{ARN}{name}:$LATEST")

    def test_one_that_is_not_there(self):
        for called in ("nobody", ARN + "nobody"):
            for call in (LAMBDA.get_function, LAMBDA.get_function_configuration, LAMBDA.delete_function):
                message = self.refused("ResourceNotFoundException", 404, call, FunctionName=called)
                self.assertEqual(message, f"Function not found: {ARN}nobody")
        self.assertTrue(issubclass(LAMBDA.exceptions.ResourceNotFoundException, Exception))

    def test_one_that_is_elsewhere(self):
        message = self.refused(
            "ResourceNotFoundException", 404, LAMBDA.get_function,
            FunctionName=f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:f",
        )
        self.assertEqual(message, f"Functions from 'eu-west-1' are not reachable in this region ('{REGION}')")
        self.refused(
            "AccessDeniedException", 403, LAMBDA.get_function,
            FunctionName=f"arn:aws:lambda:{REGION}:123456789012:function:f",
        )

    def test_two_qualifiers(self):
        message = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.get_function, FunctionName="f:1", Qualifier="2"
        )
        self.assertEqual(
            message, "The derived qualifier from the function name does not match the specified qualifier."
        )

    def test_a_qualifier_there_is_not(self):
        name = self.function()
        message = self.refused("ResourceNotFoundException", 404, LAMBDA.get_function, FunctionName=name, Qualifier="77")
        self.assertEqual(message, f"Function not found: {ARN}{name}:77")

    def test_the_code_is_where_the_url_says(self):
        name = self.function()
        code = LAMBDA.get_function(FunctionName=name)["Code"]
        self.assertEqual(code["RepositoryType"], "S3")
        with urllib.request.urlopen(code["Location"], timeout=30) as response:
            self.assertEqual(response.headers["content-type"], "application/zip")
            body = response.read()
        self.assertEqual(body, package(ECHO))
        self.assertEqual(zipfile.ZipFile(io.BytesIO(body)).read("app.py").decode(), ECHO)
        changed = re.sub(r"X-Amz-Expires=\d+", "X-Amz-Expires=6000", code["Location"])
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(changed, timeout=30)
        caught.exception.close()
        self.assertEqual(caught.exception.code, 403)

    def test_lists_come_in_pages(self):
        names = sorted(self.function() for _ in range(3))
        pages = LAMBDA.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
        found = [function for page in pages for function in page["Functions"]]
        listed = [function["FunctionName"] for function in found]
        self.assertEqual(len(set(listed)), len(listed))
        self.assertLessEqual(set(names), set(listed))
        self.assertTrue(all("State" not in function for function in found))
        first = LAMBDA.list_functions(MaxItems=1)
        self.assertEqual(len(first["Functions"]), 1)
        self.assertIn("NextMarker", first)
        self.assertNotIn("NextMarker", LAMBDA.list_functions(MaxItems=10000))
        self.refused("InvalidParameterValueException", 400, LAMBDA.list_functions, Marker="not one of yours")


class Changing(Case):
    def test_new_code_answers_the_next_call(self):
        name = self.function("def handler(event, context):\n    return 1\n")
        self.assertEqual(self.call(name)[0], 1)
        before = LAMBDA.get_function_configuration(FunctionName=name)
        changed = LAMBDA.update_function_code(
            FunctionName=name, ZipFile=package("def handler(event, context):\n    return 2\n")
        )
        self.assertEqual((changed["State"], changed["LastUpdateStatus"]), ("Active", "InProgress"))
        self.assertNotEqual(changed["CodeSha256"], before["CodeSha256"])
        LAMBDA.get_waiter("function_updated_v2").wait(FunctionName=name)
        self.assertEqual(self.call(name)[0], 2)

    def test_a_dry_run_changes_nothing(self):
        name = self.function()
        before = LAMBDA.get_function_configuration(FunctionName=name)
        code = package("x = 1\n")
        dry = LAMBDA.update_function_code(FunctionName=name, ZipFile=code, DryRun=True)
        self.assertEqual(dry["CodeSha256"], base64.b64encode(hashlib.sha256(code).digest()).decode())
        self.refused(
            "InvalidParameterValueException", 400, LAMBDA.update_function_code, FunctionName=name, ZipFile=b"no zip", DryRun=True
        )
        after = LAMBDA.get_function_configuration(FunctionName=name)
        self.assertEqual((before["CodeSha256"], before["RevisionId"]), (after["CodeSha256"], after["RevisionId"]))

    def test_settings_change_and_the_rest_stays(self):
        name = self.function(Description="first", Timeout=5, TracingConfig={"Mode": "Active"})
        changed = LAMBDA.update_function_configuration(
            FunctionName=name, MemorySize=256, Environment={"Variables": {"AA": "1"}}
        )
        self.assertEqual(changed["LastUpdateStatus"], "InProgress")
        LAMBDA.get_waiter("function_updated_v2").wait(FunctionName=name)
        now = LAMBDA.get_function_configuration(FunctionName=name)
        self.assertEqual((now["Description"], now["Timeout"], now["MemorySize"]), ("first", 5, 256))
        self.assertEqual(now["TracingConfig"], {"Mode": "Active"})
        self.assertEqual(now["Environment"], {"Variables": {"AA": "1"}})
        LAMBDA.update_function_configuration(FunctionName=name, Environment={"Variables": {}})
        self.assertNotIn("Environment", LAMBDA.get_function_configuration(FunctionName=name))

    def test_the_function_sees_its_new_environment(self):
        code = "import os\ndef handler(event, context):\n    return os.environ.get('WHO')\n"
        name = self.function(code, Environment={"Variables": {"WHO": "first"}})
        self.assertEqual(self.call(name)[0], "first")
        LAMBDA.update_function_configuration(FunctionName=name, Environment={"Variables": {"WHO": "second"}})
        self.assertEqual(self.call(name)[0], "second")

    def test_credentials_come_by_the_native_face(self):
        code = """
            import boto3
            def handler(event, context):
                given = boto3.Session().get_credentials()
                return given and [given.access_key, given.secret_key]
        """
        name = self.function(textwrap.dedent(code))
        self.assertIsNone(self.call(name)[0])
        given = {"AWS_ACCESS_KEY_ID": "AKIAMINE", "AWS_SECRET_ACCESS_KEY": "hush"}
        self.refused(
            "InvalidParameterValueException",
            400,
            LAMBDA.update_function_configuration,
            FunctionName=name,
            Environment={"Variables": given},
        )
        native("PUT", f"/functions/{name}", {"environment": given})
        self.assertEqual(self.call(name)[0], ["AKIAMINE", "hush"])
        # Not of AWS's world: neither seen nor lost there.
        self.assertNotIn("Environment", LAMBDA.get_function_configuration(FunctionName=name))
        LAMBDA.update_function_configuration(FunctionName=name, Environment={"Variables": {"AA": "1"}})
        self.assertEqual(LAMBDA.get_function_configuration(FunctionName=name)["Environment"], {"Variables": {"AA": "1"}})
        self.assertEqual(self.call(name)[0], ["AKIAMINE", "hush"])

    def test_only_from_the_revision_that_is(self):
        name = self.function()
        read = LAMBDA.get_function_configuration(FunctionName=name)["RevisionId"]
        LAMBDA.update_function_configuration(FunctionName=name, Timeout=4, RevisionId=read)
        for call, parameters in (
            (LAMBDA.update_function_configuration, {"Timeout": 5}),
            (LAMBDA.update_function_code, {"ZipFile": package(ECHO)}),
        ):
            message = self.refused("PreconditionFailedException", 412, call, FunctionName=name, RevisionId=read, **parameters)
            self.assertTrue(message.startswith("The Revision Id provided does not match the latest Revision Id."))
        self.assertEqual(LAMBDA.get_function_configuration(FunctionName=name)["Timeout"], 4)

    def test_one_that_is_not_there(self):
        self.refused("ResourceNotFoundException", 404, LAMBDA.update_function_configuration, FunctionName="nobody", Timeout=4)
        self.refused("ResourceNotFoundException", 404, LAMBDA.update_function_code, FunctionName="nobody", ZipFile=b"x")

    def test_another_runtime_for_the_same_code(self):
        name = self.function(Runtime="python3.12")
        changed = LAMBDA.update_function_configuration(FunctionName=name, Runtime="python3.11")
        self.assertEqual(changed["Runtime"], "python3.11")
        self.assertEqual(self.call(name, [1])[0], [1])


class Deleting(Case):
    def test_it_is_gone(self):
        name = self.function()
        answer = LAMBDA.delete_function(FunctionName=name)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 204)
        self.refused("ResourceNotFoundException", 404, LAMBDA.get_function, FunctionName=name)
        self.refused("ResourceNotFoundException", 404, LAMBDA.invoke, FunctionName=name)
        self.function(FunctionName=name)

    def test_the_latest_version_alone(self):
        name = self.function()
        message = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.delete_function, FunctionName=name, Qualifier="$LATEST"
        )
        self.assertEqual(message, "$LATEST version cannot be deleted without deleting the function.")


class NotThere(Case):
    def test_what_is_not_supported_says_so(self):
        for call, parameters in (
            (LAMBDA.get_function_scaling_config, {"FunctionName": "f", "Qualifier": "1"}),
            (LAMBDA.send_durable_execution_callback_heartbeat, {"CallbackId": "c"}),
        ):
            message = self.refused("NotImplementedException", 501, call, **parameters)
            self.assertIn("not supported by Hearth", message)

    def test_retries_do_not_hang_on_it(self):
        patient = client()
        self.refused("NotImplementedException", 501, patient.get_function_scaling_config, FunctionName="f", Qualifier="1")
