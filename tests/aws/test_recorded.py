"""What AWS was recorded to answer where nobody would guess it."""

from support import ARN, ECHO, LAMBDA, ROLE, Case, package

INVALID = "InvalidParameterValueException", 400


class Recorded(Case):
    def create(self, **settings):
        given = {
            "FunctionName": self.name(), "Runtime": "python3.13", "Handler": "app.handler", "Role": ROLE,
            "Code": {"ZipFile": package(ECHO)}, **settings,
        }
        return LAMBDA.create_function(**given)

    def test_runtimes_that_are_no_more(self):
        for runtime in ("python3.7", "nodejs14.x", "nodejs12.x"):
            message = self.refused(*INVALID, self.create, Runtime=runtime)
            self.assertEqual(
                message,
                f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions.",
            )
        for runtime in ("non-existent-runtime", "PYTHON3.9"):
            message = self.refused(*INVALID, self.create, Runtime=runtime)
            self.assertRegex(
                message,
                rf"^Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: \[.*\] or be a valid ARN$",
            )

    def test_architectures(self):
        for given, constraint in (
            (["x86_64", "arm64"], "Member must have length less than or equal to 1"),
            (["X86_64"], "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"),
        ):
            message = self.refused("ValidationException", 400, self.create, Architectures=given)
            value = ", ".join(given)
            self.assertEqual(
                message, f"1 validation error detected: Value '[{value}]' at 'architectures' failed to satisfy constraint: {constraint}"
            )

    def test_an_environment_of_nothing_is_one(self):
        self.assertEqual(self.create(Environment={"Variables": {}})["Environment"], {"Variables": {}})
        self.assertEqual(self.create(Environment={})["Environment"], {"Variables": {}})
        made = self.create()
        self.assertNotIn("Environment", made)
        name = made["FunctionName"]
        LAMBDA.update_function_configuration(FunctionName=name, Environment={"Variables": {"AA": "1"}})
        changed = LAMBDA.update_function_configuration(FunctionName=name, Environment={"Variables": {}})
        self.assertNotIn("Environment", changed)

    def test_a_version_that_is_not_there_may_be_deleted(self):
        name = self.function()
        for _ in range(2):
            LAMBDA.delete_function(FunctionName=name, Qualifier="1233")
        LAMBDA.delete_function(FunctionName=name)
        for qualifier in ({}, {"Qualifier": "1233"}):
            message = self.refused("ResourceNotFoundException", 404, LAMBDA.delete_function, FunctionName=name, **qualifier)
            self.assertEqual(message, f"Function not found: {ARN}{name}")

    def test_names(self):
        message = self.refused("ValidationException", 400, LAMBDA.get_function, FunctionName="my-function!")
        pattern = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
        self.assertEqual(
            message,
            "1 validation error detected: Value 'my-function!' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: "
            + pattern + r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?",
        )
        message = self.refused("ValidationException", 400, self.create, FunctionName="my-function!")
        self.assertTrue(message.endswith(pattern + r"([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?"), message)
        message = self.refused("ValidationException", 400, LAMBDA.get_function, FunctionName="f", Qualifier="invalid!")
        self.assertTrue(message.endswith(r"pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"), message)

    def test_all_versions_of_all_functions(self):
        names = [self.function(Publish=True), self.function()]
        pages = LAMBDA.get_paginator("list_functions")
        found = pages.paginate(FunctionVersion="ALL", PaginationConfig={"PageSize": 1}).build_full_result()
        found = [one["FunctionArn"] for one in found["Functions"] if one["FunctionName"] in names]
        self.assertEqual(found, [f"{ARN}{names[0]}:$LATEST", f"{ARN}{names[0]}:1", f"{ARN}{names[1]}:$LATEST"])
        found = pages.paginate(PaginationConfig={"PageSize": 1}).build_full_result()
        found = [one["FunctionArn"] for one in found["Functions"] if one["FunctionName"] in names]
        self.assertEqual(found, [ARN + name for name in names])

    def test_code_that_is_not_a_zip_or_too_much(self):
        name = self.function()
        message = self.refused(*INVALID, LAMBDA.update_function_code, FunctionName=name, ImageUri="image:latest")
        self.assertEqual(message, "Please don't provide ImageUri when updating a function with packageType Zip.")
        message = self.refused(
            "RequestEntityTooLargeException", 413, LAMBDA.update_function_code, FunctionName=name, ZipFile=b"PK\3\4" + bytes(50 * 1024 * 1024)
        )
        self.assertEqual(message, "Zipped size must be smaller than 52428800 bytes")
