"""Provisioned concurrency: workers that are kept ready, and what is said of them."""

from support import ARN, LAMBDA, Case, aws, native

# Says why its worker was started, and keeps it for a while, so that two calls at a time need two workers.
TYPE = """\
import os, time
def handler(event, context):
    if event.get("die"):
        os._exit(3)
    time.sleep(event.get("for", 0))
    return [os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], context.function_version]
"""


class Provisioned(Case):
    def published(self, code=TYPE, **settings):
        name = self.function(code, **settings)
        LAMBDA.publish_version(FunctionName=name)
        LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        return name

    def stands(self, name, qualifier, status):
        def find():
            got = LAMBDA.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
            return got if got["Status"] == status else None

        return self.until(find)

    def test_its_life(self):
        name = self.published()
        for qualifier in ("1", "live"):
            of = {"FunctionName": name, "Qualifier": qualifier}
            put = LAMBDA.put_provisioned_concurrency_config(**of, ProvisionedConcurrentExecutions=1)
            self.assertEqual(put["ResponseMetadata"]["HTTPStatusCode"], 202)
            self.assertEqual((put["Status"], put["RequestedProvisionedConcurrentExecutions"]), ("IN_PROGRESS", 1))
            self.assertEqual(
                (put["AvailableProvisionedConcurrentExecutions"], put["AllocatedProvisionedConcurrentExecutions"]), (0, 0)
            )
            ready = self.stands(name, qualifier, "READY")
            self.assertEqual(
                (ready["AvailableProvisionedConcurrentExecutions"], ready["AllocatedProvisionedConcurrentExecutions"]), (1, 1)
            )
            self.assertNotIn("StatusReason", ready)
            self.assertRegex(ready["LastModified"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000$")
            if qualifier == "1":
                message = self.refused(
                    "ResourceConflictException", 409, LAMBDA.put_provisioned_concurrency_config,
                    FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=1,
                )
                self.assertEqual(message, "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version")
            listed = LAMBDA.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
            self.assertEqual([one["FunctionArn"] for one in listed], [f"{ARN}{name}:{qualifier}"])
            if qualifier == "1":
                LAMBDA.delete_provisioned_concurrency_config(**of)
                message = self.refused(
                    "ProvisionedConcurrencyConfigNotFoundException", 404, LAMBDA.get_provisioned_concurrency_config, **of
                )
                self.assertEqual(message, "No Provisioned Concurrency Config found for this function")
        message = self.refused(
            "ResourceConflictException", 409, LAMBDA.put_provisioned_concurrency_config,
            FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1,
        )
        self.assertEqual(message, "Version is pointed by a Provisioned Concurrency alias")
        LAMBDA.delete_alias(FunctionName=name, Name="live")
        self.assertEqual(LAMBDA.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"], [])

    def test_its_calls_are_never_cold_and_it_is_filled_again(self):
        name = self.published()
        LAMBDA.put_provisioned_concurrency_config(FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=1)
        for again in (True, False):
            self.stands(name, "live", "READY")
            body, answer = self.call(name, {}, Qualifier="live", LogType="Tail")
            self.assertEqual(body, ["provisioned-concurrency", "1"])
            self.assertEqual(answer["ResponseMetadata"]["HTTPHeaders"]["x-hearth-start"], "warm")
            if again:
                died, answer = self.call(name, {"die": True}, Qualifier="live")
                self.assertEqual(died["errorType"], "Runtime.ExitError")
        # Nobody keeps any for the one that can be edited.
        self.assertEqual(self.call(name, {})[0], ["on-demand", "$LATEST"])

    def test_code_that_does_not_load(self):
        name = self.published("raise ValueError('not today')")
        LAMBDA.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1)
        failed = self.stands(name, "1", "FAILED")
        self.assertEqual(failed["StatusReason"], "FUNCTION_ERROR_INIT_FAILURE")
        (seen,) = native("GET", f"/functions/{name}/provisioned-concurrency?qualifier=1")["items"]
        self.assertIn("not today", seen["reason"])

    def test_who_comes_while_one_is_made_ready_does_not_get_its_error(self):
        code = f"{TYPE}if os.environ['AWS_LAMBDA_INITIALIZATION_TYPE'] != 'on-demand':\n    time.sleep(1)\n    raise ValueError('not ready')\n"
        name = self.published(code)
        LAMBDA.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1)
        self.assertEqual(self.call(name, {}, Qualifier="1")[0], ["on-demand", "1"])

    def test_what_is_reserved_and_provisioned_is_for_the_version_alone(self):
        name = self.published()
        LAMBDA.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        self.assertEqual(self.call(name, {})[0], ["on-demand", "$LATEST"])
        LAMBDA.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1)
        self.stands(name, "1", "READY")
        for _ in range(2):
            with self.assertRaises(LAMBDA.exceptions.TooManyRequestsException) as caught:
                LAMBDA.invoke(FunctionName=name, Payload=b"{}")
            self.assertEqual(caught.exception.response["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded")
            self.assertNotIn("retryAfterSeconds", caught.exception.response)
            self.assertEqual(self.call(name, {}, Qualifier="1")[0], ["provisioned-concurrency", "1"])
        message = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.put_function_concurrency, FunctionName=name, ReservedConcurrentExecutions=0
        )
        self.assertEqual(message, " ReservedConcurrentExecutions  0 should not be lower than function's total provisioned concurrency [1].")
        # As soon as there is more than is provisioned, everybody has it.
        LAMBDA.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
        self.assertEqual(self.call(name, {})[0], ["on-demand", "$LATEST"])
        LAMBDA.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        self.refused("TooManyRequestsException", 429, LAMBDA.invoke, FunctionName=name, Payload=b"{}")
        LAMBDA.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
        self.assertEqual(self.call(name, {})[0], ["on-demand", "$LATEST"])

    def test_what_is_wrong_is_said(self):
        name = self.published()
        missing = "ResourceNotFoundException", 404
        one = {"ProvisionedConcurrentExecutions": 1}
        for call, more in (
            (LAMBDA.put_provisioned_concurrency_config, one),
            (LAMBDA.get_provisioned_concurrency_config, {}),
            (LAMBDA.delete_provisioned_concurrency_config, {}),
        ):
            for function, qualifier, message in (
                ("nobody", "noalias", f"Cannot find alias arn: {ARN}nobody:noalias"),
                (name, "noalias", f"Cannot find alias arn: {ARN}{name}:noalias"),
                ("nobody", "1", f"Function not found: {ARN}nobody:1"),
                (name, "10", f"Function not found: {ARN}{name}:10"),
            ):
                got = self.refused(*missing, call, FunctionName=function, Qualifier=qualifier, **more)
                self.assertEqual(got, message)
            message = self.refused("InvalidParameterValueException", 400, call, FunctionName=name, Qualifier="$LATEST", **more)
            self.assertIn("published version" if not more else "unpublished function versions", message)
        self.assertEqual(
            self.refused(*missing, LAMBDA.list_provisioned_concurrency_configs, FunctionName="nobody"), f"Function not found: {ARN}nobody"
        )
        gone = LAMBDA.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
        self.assertEqual(gone["ResponseMetadata"]["HTTPStatusCode"], 204)
        most = LAMBDA.get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
        put = {"FunctionName": name, "Qualifier": "1"}
        invalid = "InvalidParameterValueException", 400
        message = self.refused(
            *invalid, LAMBDA.put_provisioned_concurrency_config, **put, ProvisionedConcurrentExecutions=most + 1
        )
        self.assertEqual(
            message, f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{most}]."
        )
        message = self.refused(*invalid, LAMBDA.put_provisioned_concurrency_config, **put, ProvisionedConcurrentExecutions=most)
        self.assertIn("decreases account's UnreservedConcurrentExecution below its minimum value of [", message)

    def test_typed(self):
        name = self.published()
        of = ("--function-name", name, "--qualifier", "live")
        aws("put-provisioned-concurrency-config", *of, "--provisioned-concurrent-executions", "1")
        self.until(lambda: aws("get-provisioned-concurrency-config", *of)["Status"] == "READY")
        aws("delete-provisioned-concurrency-config", *of)
        self.assertIn("ProvisionedConcurrencyConfigNotFound", aws("get-provisioned-concurrency-config", *of, check=False).stderr)
