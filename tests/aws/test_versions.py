"""Versions and aliases."""

import collections

from support import ARN, ECHO, LAMBDA, Case, aws, package


def says(text):
    return f"def handler(event, context):\n    return [{text!r}, context.function_version]\n"


class Versions(Case):
    def test_a_version_stays_as_it_was(self):
        name = self.function(says("one"), Description="first")
        made = LAMBDA.publish_version(FunctionName=name, Description="the first")
        self.assertEqual(made["ResponseMetadata"]["HTTPStatusCode"], 201)
        self.assertEqual((made["Version"], made["FunctionArn"]), ("1", f"{ARN}{name}:1"))
        self.assertEqual(made["Description"], "the first")
        LAMBDA.update_function_code(FunctionName=name, ZipFile=package(says("two")))
        self.assertEqual(self.call(name)[0], ["two", "$LATEST"])
        body, answer = self.call(name, Qualifier="1")
        self.assertEqual((body, answer["ExecutedVersion"]), (["one", "1"], "1"))
        self.assertEqual(self.call(f"{ARN}{name}:1")[0], ["one", "1"])
        got = LAMBDA.get_function(FunctionName=name, Qualifier="1")
        self.assertEqual(got["Configuration"]["CodeSha256"], made["CodeSha256"])
        self.assertIn("%3A1" if "%3A1" in got["Code"]["Location"] else ":1", got["Code"]["Location"])

    def test_nothing_new_is_nothing_to_publish(self):
        name = self.function()
        first = LAMBDA.publish_version(FunctionName=name)
        LAMBDA.tag_resource(Resource=ARN + name, Tags={"a": "b"})
        again = LAMBDA.publish_version(FunctionName=name)
        self.assertEqual((first["Version"], again["Version"]), ("1", "1"))
        self.assertEqual(first["RevisionId"], again["RevisionId"])
        LAMBDA.update_function_configuration(FunctionName=name, Timeout=9)
        self.assertEqual(LAMBDA.publish_version(FunctionName=name)["Version"], "2")

    def test_what_was_written_again_is_new(self):
        name = self.function()
        first = LAMBDA.publish_version(FunctionName=name)
        # The same code, but it was written; twice is once.
        LAMBDA.update_function_code(FunctionName=name, ZipFile=package(ECHO))
        again = [LAMBDA.publish_version(FunctionName=name) for _ in range(2)]
        self.assertEqual([v["Version"] for v in again], ["2", "2"])
        self.assertEqual(again[0]["CodeSha256"], first["CodeSha256"])
        made = LAMBDA.update_function_code(FunctionName=name, ZipFile=package(ECHO), Publish=True)
        self.assertEqual((made["Version"], LAMBDA.publish_version(FunctionName=name)["Version"]), ("3", "3"))
        LAMBDA.update_function_code(FunctionName=name, ZipFile=package(says("x")), DryRun=True)
        self.assertEqual(LAMBDA.publish_version(FunctionName=name)["Version"], "3")
        LAMBDA.update_function_configuration(FunctionName=name, Timeout=3)
        self.assertEqual(LAMBDA.publish_version(FunctionName=name)["Version"], "4")
        for kind, to in (("ValidationException", "LATEST"), ("InvalidParameterValueException", "LATEST_PUBLISHED")):
            self.refused(kind, 400, LAMBDA.publish_version, FunctionName=name, PublishTo=to)

    def test_what_is_published_cannot_be_written(self):
        name = self.function()
        LAMBDA.publish_version(FunctionName=name)
        LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        for qualifier in ("1", "live"):
            for call, more in (
                (LAMBDA.update_function_code, {"ZipFile": package(says("x"))}),
                (LAMBDA.update_function_configuration, {"Timeout": 9}),
                (LAMBDA.publish_version, {}),
            ):
                message = self.refused("InvalidParameterValueException", 400, call, FunctionName=f"{name}:{qualifier}", **more)
                self.assertTrue(message.startswith("This operation is permitted on Lambda functions only."), message)
        self.assertEqual(LAMBDA.get_function_configuration(FunctionName=name)["Timeout"], 3)
        LAMBDA.update_function_configuration(FunctionName=f"{ARN}{name}:$LATEST", Timeout=9)

    def test_publish_with_what_is_made(self):
        name = self.name()
        made = LAMBDA.create_function(
            FunctionName=name, Runtime="python3.13", Role="arn:aws:iam::000000000000:role/r", Handler="app.handler",
            Code={"ZipFile": package(ECHO)}, Publish=True,
        )
        self.assertEqual((made["Version"], made["FunctionArn"], made["State"]), ("1", ARN + name, "Pending"))
        changed = LAMBDA.update_function_code(FunctionName=name, ZipFile=package(says("x")), Publish=True)
        self.assertEqual((changed["Version"], changed["FunctionArn"], changed["State"]), ("2", f"{ARN}{name}:2", "Pending"))
        LAMBDA.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="2")

    def test_only_what_was_meant(self):
        name = self.function()
        message = self.refused("InvalidParameterValueException", 400, LAMBDA.publish_version, FunctionName=name, CodeSha256="AAAA")
        self.assertTrue(message.startswith("CodeSHA256 (AAAA) is different from current CodeSHA256 in $LATEST ("))
        self.refused("PreconditionFailedException", 412, LAMBDA.publish_version, FunctionName=name, RevisionId="0" * 36)
        now = LAMBDA.get_function_configuration(FunctionName=name)
        made = LAMBDA.publish_version(FunctionName=name, CodeSha256=now["CodeSha256"], RevisionId=now["RevisionId"])
        self.assertEqual(made["Version"], "1")
        self.refused("ResourceNotFoundException", 404, LAMBDA.publish_version, FunctionName="nobody")

    def test_lists_begin_with_the_latest(self):
        name = self.function()
        for timeout in (4, 5, 6):
            LAMBDA.update_function_configuration(FunctionName=name, Timeout=timeout)
            LAMBDA.publish_version(FunctionName=name)
        pages = LAMBDA.get_paginator("list_versions_by_function").paginate(FunctionName=name, PaginationConfig={"PageSize": 2})
        found = [(v["Version"], v["Timeout"], v["FunctionArn"]) for page in pages for v in page["Versions"]]
        wanted = [("$LATEST", 6), ("1", 4), ("2", 5), ("3", 6)]
        self.assertEqual(found, [(v, t, f"{ARN}{name}:{v}") for v, t in wanted])
        self.assertEqual(len(LAMBDA.list_versions_by_function(FunctionName=name, MaxItems=10000)["Versions"]), 4)

    def test_one_is_deleted(self):
        name = self.function()
        LAMBDA.publish_version(FunctionName=name)
        LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        said = self.refused("ResourceConflictException", 409, LAMBDA.delete_function, FunctionName=name, Qualifier="1")
        self.assertEqual(said, "Unable to delete version because the following aliases reference it: [live]")
        LAMBDA.delete_alias(FunctionName=name, Name="live")
        LAMBDA.delete_function(FunctionName=name, Qualifier="1")
        self.refused("ResourceNotFoundException", 404, LAMBDA.get_function, FunctionName=name, Qualifier="1")
        self.assertEqual(self.call(name)[0], {})


class Aliases(Case):
    def published(self):
        name = self.function(says("one"))
        LAMBDA.publish_version(FunctionName=name)
        LAMBDA.update_function_code(FunctionName=name, ZipFile=package(says("two")))
        LAMBDA.publish_version(FunctionName=name)
        return name

    def test_an_alias_points_and_is_moved(self):
        name = self.published()
        made = LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1", Description="what runs")
        self.assertEqual(made["ResponseMetadata"]["HTTPStatusCode"], 201)
        self.assertEqual((made["AliasArn"], made["FunctionVersion"], made["Description"]), (f"{ARN}{name}:live", "1", "what runs"))
        self.assertNotIn("RoutingConfig", made)
        body, answer = self.call(name, Qualifier="live")
        self.assertEqual((body, answer["ExecutedVersion"]), (["one", "1"], "1"))
        shown = LAMBDA.get_function_configuration(FunctionName=name, Qualifier="live")
        self.assertEqual((shown["FunctionArn"], shown["Version"]), (f"{ARN}{name}:live", "1"))
        moved = LAMBDA.update_alias(FunctionName=name, Name="live", FunctionVersion="2", RevisionId=made["RevisionId"])
        self.assertEqual((moved["FunctionVersion"], moved["Description"]), ("2", "what runs"))
        self.assertNotEqual(moved["RevisionId"], made["RevisionId"])
        self.assertEqual(self.call(f"{name}:live")[0], ["two", "2"])
        self.refused("PreconditionFailedException", 412, LAMBDA.update_alias, FunctionName=name, Name="live", RevisionId=made["RevisionId"])
        self.assertEqual(LAMBDA.get_alias(FunctionName=name, Name="live")["FunctionVersion"], "2")

    def test_an_alias_with_weights_sends_to_both(self):
        name = self.published()
        made = LAMBDA.create_alias(
            FunctionName=name, Name="both", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}}
        )
        self.assertEqual(made["RoutingConfig"], {"AdditionalVersionWeights": {"2": 0.5}})
        seen = collections.Counter(self.call(name, Qualifier="both")[1]["ExecutedVersion"] for _ in range(60))
        # Less than one in 10^17 that one of them never comes.
        self.assertEqual(set(seen), {"1", "2"})
        plain = LAMBDA.update_alias(FunctionName=name, Name="both", RoutingConfig={})
        self.assertNotIn("RoutingConfig", plain)

    def test_the_handler_knows_by_what_name_it_was_called(self):
        name = self.function("def handler(event, context):\n    return context.invoked_function_arn\n")
        LAMBDA.publish_version(FunctionName=name)
        LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        self.assertEqual(self.call(name, Qualifier="live")[0], f"{ARN}{name}:live")
        self.assertEqual(self.call(name, Qualifier="1")[0], f"{ARN}{name}:1")

    def test_lists(self):
        name = self.published()
        for alias, version in (("a", "1"), ("b", "2"), ("c", "1")):
            LAMBDA.create_alias(FunctionName=name, Name=alias, FunctionVersion=version)
        pages = LAMBDA.get_paginator("list_aliases").paginate(FunctionName=name, PaginationConfig={"PageSize": 2})
        self.assertEqual([a["Name"] for page in pages for a in page["Aliases"]], ["a", "b", "c"])
        only = LAMBDA.list_aliases(FunctionName=name, FunctionVersion="1")["Aliases"]
        self.assertEqual([a["Name"] for a in only], ["a", "c"])
        self.refused("ValidationException", 400, LAMBDA.list_aliases, FunctionName=name, FunctionVersion="a")

    def test_what_is_wrong_is_said(self):
        name = self.published()
        LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        arn = ARN + name
        self.assertEqual(
            self.refused("ResourceConflictException", 409, LAMBDA.create_alias, FunctionName=name, Name="live", FunctionVersion="1"),
            f"Alias already exists: {arn}:live",
        )
        self.assertEqual(
            self.refused("ResourceNotFoundException", 404, LAMBDA.create_alias, FunctionName=name, Name="x", FunctionVersion="9"),
            f"Function not found: {arn}:9",
        )
        self.assertEqual(
            self.refused("ResourceNotFoundException", 404, LAMBDA.get_alias, FunctionName=name, Name="none"),
            f"Cannot find alias arn: {arn}:none",
        )
        self.assertEqual(
            self.refused("ResourceNotFoundException", 404, LAMBDA.update_alias, FunctionName=name, Name="none"),
            f"Alias not found: {arn}:none",
        )
        self.refused("ValidationException", 400, LAMBDA.create_alias, FunctionName=name, Name="12", FunctionVersion="1")
        self.refused(
            "InvalidParameterValueException", 400, LAMBDA.create_alias,
            FunctionName=name, Name="x", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"1": 0.1, "2": 0.1}},
        )
        self.refused(
            "ValidationException", 400, LAMBDA.create_alias,
            FunctionName=name, Name="x", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 1.5}},
        )
        self.assertEqual(LAMBDA.delete_alias(FunctionName=name, Name="none")["ResponseMetadata"]["HTTPStatusCode"], 204)

    def test_typed(self):
        name = self.function()
        aws("publish-version", "--function-name", name)
        aws("create-alias", "--function-name", name, "--name", "live", "--function-version", "1")
        self.assertEqual(aws("get-alias", "--function-name", name, "--name", "live")["FunctionVersion"], "1")
        answer = aws("invoke", "--function-name", name, "--qualifier", "live", "/dev/null")
        self.assertEqual(answer["ExecutedVersion"], "1")
