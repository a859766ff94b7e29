"""What AWS was recorded to answer where nobody would guess it."""

import threading

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
        for runtime in ("python3.7", "nodejs14.x", "nodejs12.x", "java8", "go1.x", "ruby2.7", "dotnetcore3.1", "provided"):
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

    def test_runtimes_that_are_old_and_still_taken(self):
        arns = set()
        for runtime in ("python3.8", "python3.13", "nodejs16.x"):
            made = self.create(Runtime=runtime)
            self.assertEqual(made["Runtime"], runtime)
            arns.add(made["RuntimeVersionConfig"]["RuntimeVersionArn"])
        self.assertEqual(len(arns), 3)

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

    def test_an_environment_is_measured_as_json(self):
        room = 4096 - len('{"LARGE_VAR":""}')
        name = self.create(Environment={"Variables": {"LARGE_VAR": "x" * room}})["FunctionName"]
        change = LAMBDA.update_function_configuration
        message = self.refused(*INVALID, change, FunctionName=name, Environment={"Variables": {"LARGE_VAR": "x" * (room + 1)}})
        self.assertEqual(
            message,
            "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. "
            'String measured: {"LARGE_VAR":"' + "x" * (room + 1) + '"}',
        )

    def test_a_version_changes_the_revision(self):
        name = self.function()
        revision = lambda: LAMBDA.get_function_configuration(FunctionName=name)["RevisionId"]
        before = revision()
        version = LAMBDA.publish_version(FunctionName=name, RevisionId=before)
        after = revision()
        self.assertEqual(len({before, version["RevisionId"], after}), 3)
        stale = "PreconditionFailedException", 412
        change = {"FunctionName": name, "Description": "another"}
        self.refused(*stale, LAMBDA.update_function_configuration, **change, RevisionId=before)
        self.refused(*stale, LAMBDA.publish_version, FunctionName=name, RevisionId=before)
        LAMBDA.update_function_configuration(**change, RevisionId=after)
        # Nothing was changed since the version: nothing is new.
        LAMBDA.publish_version(FunctionName=name)
        again = revision()
        LAMBDA.publish_version(FunctionName=name, RevisionId=again)
        self.assertEqual(revision(), again)

    def test_what_has_no_policy_goes_by_its_own_revision(self):
        name = self.function(Publish=True)
        alias = LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        latest = LAMBDA.get_function_configuration(FunctionName=name)
        version = LAMBDA.get_function_configuration(FunctionName=name, Qualifier="1")
        good = {"FunctionName": name, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
        for at, revision in (({"Qualifier": "live"}, alias), ({"Qualifier": "1"}, version), ({}, latest)):
            add = {**good, **at, "StatementId": "s"}
            revision = revision["RevisionId"]
            self.refused("PreconditionFailedException", 412, LAMBDA.add_permission, **add, RevisionId="wrong")
            if not at:
                revision = LAMBDA.get_function_configuration(FunctionName=name)["RevisionId"]
            LAMBDA.add_permission(**add, RevisionId=revision)
            add["StatementId"] = "t"
            self.refused("PreconditionFailedException", 412, LAMBDA.add_permission, **add, RevisionId=revision)
            LAMBDA.add_permission(**add, RevisionId=LAMBDA.get_policy(FunctionName=name, **at)["RevisionId"])

    def test_principals(self):
        name = self.function()
        good = {"FunctionName": name, "Action": "lambda:InvokeFunction"}
        for principal in ("invalid.nonaws.com", "s3", "12345"):
            message = self.refused(*INVALID, LAMBDA.add_permission, **good, StatementId="s", Principal=principal)
            self.assertEqual(message, "The provided principal was invalid. Please check the principal and try again.")
        for number, principal in enumerate(("*", "123456789012", "arn:aws:iam::123456789012:user/u", "alexa-appkit.amazon.com")):
            LAMBDA.add_permission(**good, StatementId=f"s{number}", Principal=principal)

    def test_lists_leave_out_which_runtime_it_is(self):
        name = self.function(Publish=True)
        self.assertIn("RuntimeVersionConfig", LAMBDA.get_function_configuration(FunctionName=name))
        found = LAMBDA.get_paginator("list_functions").paginate(FunctionVersion="ALL").build_full_result()["Functions"]
        found += LAMBDA.list_versions_by_function(FunctionName=name)["Versions"]
        found = [one for one in found if one["FunctionName"] == name]
        self.assertEqual(len(found), 4)
        for one in found:
            self.assertNotIn("RuntimeVersionConfig", one)

    def test_aliases_of_two_versions(self):
        name = self.function(Publish=True)
        LAMBDA.update_function_configuration(FunctionName=name, Description="two")
        LAMBDA.publish_version(FunctionName=name)

        def refused(kind, weights, version="1", name=name, status=400):
            routing = {"AdditionalVersionWeights": weights}
            given = {"FunctionName": name, "Name": "live", "FunctionVersion": version, "RoutingConfig": routing}
            return self.refused(kind, status, LAMBDA.create_alias, **given)

        at = "1 validation error detected: Value '{%s}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map "
        value = "value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]"
        key = "keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+]"
        self.assertEqual(refused("ValidationException", {"2": 2}), at % "2=2.0" + value)
        self.assertEqual(refused("ValidationException", {"$LATEST": 0.5}), at % "$LATEST=0.5" + key)
        same = "Invalid function version 1. Function version 1 is already included in routing configuration."
        self.assertEqual(refused(INVALID[0], {"1": 0.5}), same)
        latest = "$LATEST is not supported for an alias pointing to more than 1 version"
        self.assertEqual(refused(INVALID[0], {"1": 0.5}, "$LATEST"), latest)
        missing = refused("ResourceNotFoundException", {"2": 0.5}, name=f"{name}-unknown", status=404)
        self.assertEqual(missing, f"Function not found: {ARN}{name}-unknown:1")
        LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
        message = self.refused(*INVALID, LAMBDA.update_alias, FunctionName=name, Name="live", FunctionVersion="2")
        self.assertEqual(message, same.replace("version 1", "version 2"))

    def test_whose_fault_a_limit_is_stays_unsaid(self):
        name = self.function(Publish=True)
        most = LAMBDA.get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
        for call, given in (
            (LAMBDA.put_function_concurrency, {"ReservedConcurrentExecutions": most}),
            (LAMBDA.put_function_concurrency, {"ReservedConcurrentExecutions": most + 1}),
            (LAMBDA.put_provisioned_concurrency_config, {"Qualifier": "1", "ProvisionedConcurrentExecutions": most}),
            (LAMBDA.put_provisioned_concurrency_config, {"Qualifier": "1", "ProvisionedConcurrentExecutions": most + 1}),
        ):
            with self.assertRaises(LAMBDA.exceptions.InvalidParameterValueException) as caught:
                call(FunctionName=name, **given)
            self.assertNotIn("Type", caught.exception.response)

    def test_what_is_never_deleted_so(self):
        for qualifier, message in (
            ("$LATEST", "$LATEST version cannot be deleted without deleting the function."),
            ("live", "Deletion of aliases is not currently supported."),
        ):
            for name in ("nobody", self.function()):
                said = self.refused(*INVALID, LAMBDA.delete_function, FunctionName=name, Qualifier=qualifier)
                self.assertEqual(said, message)
        missing = self.refused("ResourceNotFoundException", 404, LAMBDA.delete_function, FunctionName="nobody", Qualifier="$latest")
        self.assertEqual(missing, f"Function not found: {ARN}nobody")

    def test_every_version_counts_in_the_size_of_all_code(self):
        size = lambda: LAMBDA.get_account_settings()["AccountUsage"]["TotalCodeSize"]
        start = size()
        made = self.create()
        self.assertEqual(size(), start + made["CodeSize"])
        self.create()
        LAMBDA.publish_version(FunctionName=made["FunctionName"])
        self.assertEqual(size(), start + 3 * made["CodeSize"])
        layer = {"LayerName": self.name(), "Content": {"ZipFile": package({"a.txt": "a"})}}
        made = [LAMBDA.publish_layer_version(**layer) for _ in range(2)]
        grown = size()
        for one in made:
            LAMBDA.delete_layer_version(LayerName=layer["LayerName"], VersionNumber=one["Version"])
        self.assertEqual(grown - size(), 2 * made[0]["Content"]["CodeSize"])

    def test_what_is_said_of_logs_is_over_what_was_said(self):
        name = self.create()["FunctionName"]
        change = lambda **given: LAMBDA.update_function_configuration(FunctionName=name, LoggingConfig=given)["LoggingConfig"]
        group = {"LogGroup": "cool_lambda"}
        self.assertEqual(change(**group), {"LogFormat": "Text", **group})
        levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "DEBUG"}
        self.assertEqual(change(LogFormat="JSON", SystemLogLevel="DEBUG"), {"LogFormat": "JSON", **levels, **group})
        self.assertEqual(change(LogFormat="Text"), {"LogFormat": "Text", **group})
        message = self.refused(*INVALID, self.create, LoggingConfig={"LogFormat": "Text", "ApplicationLogLevel": "DEBUG"})
        self.assertEqual(
            message,
            'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change the LogFormat to "JSON" and try again.',
        )

    def test_kinds_of_calls(self):
        name = self.create()["FunctionName"]
        at = "1 validation error detected: Value '{}' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [{}]"
        message = self.refused("ValidationException", 400, LAMBDA.invoke_with_response_stream, FunctionName=name, InvocationType="Event")
        self.assertEqual(message, at.format("Event", "RequestResponse, DryRun"))
        message = self.refused("ValidationException", 400, LAMBDA.invoke, FunctionName=name, InvocationType="Later")
        self.assertEqual(message, at.format("Later", "Event, RequestResponse, DryRun"))

    def test_a_version_is_published_while_others_change_the_function(self):
        name = self.create()["FunctionName"]
        stop = threading.Event()

        def change():
            number = 0
            while not stop.is_set():
                number += 1
                LAMBDA.tag_resource(Resource=ARN + name, Tags={"n": str(number)})

        other = threading.Thread(target=change)
        other.start()
        try:
            # Nobody said which revision it has to be.
            for number in range(40):
                LAMBDA.publish_version(FunctionName=name, Description=str(number))
        finally:
            stop.set()
            other.join()
