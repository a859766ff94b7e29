"""What is set beside a function: concurrency, tags, permissions, and what is only kept."""

import json

from support import ACCOUNT, ARN, LAMBDA, REGION, ROLE, Case, aws, package


class Concurrency(Case):
    def test_it_is_set_shown_and_taken_away(self):
        name = self.function()
        self.assertNotIn("ReservedConcurrentExecutions", LAMBDA.get_function_concurrency(FunctionName=name))
        put = LAMBDA.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=5)
        self.assertEqual(put["ReservedConcurrentExecutions"], 5)
        self.assertEqual(LAMBDA.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"], 5)
        self.assertEqual(LAMBDA.get_function(FunctionName=name)["Concurrency"], {"ReservedConcurrentExecutions": 5})
        gone = LAMBDA.delete_function_concurrency(FunctionName=name)
        self.assertEqual(gone["ResponseMetadata"]["HTTPStatusCode"], 204)
        self.assertNotIn("Concurrency", LAMBDA.get_function(FunctionName=name))

    def test_none_at_all_throttles(self):
        name = self.function()
        LAMBDA.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        with self.assertRaises(LAMBDA.exceptions.TooManyRequestsException) as caught:
            LAMBDA.invoke(FunctionName=name)
        answer = caught.exception.response
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 429)
        self.assertEqual(answer["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded")
        self.assertEqual(answer["Error"]["Message"], "Rate Exceeded.")
        LAMBDA.delete_function_concurrency(FunctionName=name)
        self.assertEqual(self.call(name)[0], {})

    def test_not_more_than_there_is(self):
        name = self.function()
        message = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.put_function_concurrency,
            FunctionName=name, ReservedConcurrentExecutions=1_000_000,
        )
        self.assertIn("decreases account's UnreservedConcurrentExecution below its minimum value of [", message)

    def test_of_nobody(self):
        message = self.refused("ResourceNotFoundException", 404, LAMBDA.get_function_concurrency, FunctionName="nobody")
        self.assertEqual(message, f"Function not found: {ARN}nobody")
        message = self.refused(
            "ResourceNotFoundException", 404, LAMBDA.put_function_concurrency, FunctionName="nobody", ReservedConcurrentExecutions=1
        )
        self.assertEqual(message, f"Function not found: {ARN}nobody:$LATEST")

    def test_of_a_version(self):
        name = self.function()
        message = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.put_function_concurrency,
            FunctionName=f"{ARN}{name}:$LATEST", ReservedConcurrentExecutions=0,
        )
        self.assertEqual(
            message,
            "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.",
        )

    def test_the_account(self):
        self.function()
        got = LAMBDA.get_account_settings()
        self.assertGreaterEqual(got["AccountUsage"]["FunctionCount"], 1)
        self.assertGreater(got["AccountLimit"]["ConcurrentExecutions"], 0)
        self.assertEqual(got["AccountLimit"]["CodeSizeUnzipped"], 262144000)


class Tags(Case):
    def test_they_are_added_and_taken_away(self):
        name = self.function(Tags={"a": "1"})
        LAMBDA.tag_resource(Resource=ARN + name, Tags={"b": "2", "with space": "x y"})
        self.assertEqual(LAMBDA.list_tags(Resource=ARN + name)["Tags"], {"a": "1", "b": "2", "with space": "x y"})
        LAMBDA.untag_resource(Resource=ARN + name, TagKeys=["a", "with space", "none"])
        self.assertEqual(LAMBDA.get_function(FunctionName=name)["Tags"], {"b": "2"})
        LAMBDA.untag_resource(Resource=ARN + name, TagKeys=["b"])
        self.assertNotIn("Tags", LAMBDA.get_function(FunctionName=name))

    def test_what_is_wrong_is_said(self):
        name = self.function()
        self.refused("ResourceNotFoundException", 404, LAMBDA.list_tags, Resource=ARN + "nobody")
        message = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.tag_resource, Resource=f"{ARN}{name}:1", Tags={"a": "b"}
        )
        self.assertEqual(message, "Tags on function aliases and versions are not supported. Please specify a function ARN.")
        self.refused("ValidationException", 400, LAMBDA.list_tags, Resource=name)
        for resource in ("arn:aws:something", ARN.replace(":function:", ":foobar:") + name):
            message = self.refused("ValidationException", 400, LAMBDA.tag_resource, Resource=resource, Tags={"a": "b"})
            self.assertIn(f"Value '{resource}' at 'resource' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws", message)
        mapping = ARN.replace(":function:", ":event-source-mapping:") + "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
        self.assertEqual(
            self.refused("ResourceNotFoundException", 404, LAMBDA.list_tags, Resource=mapping), f"Event source mapping not found: {mapping}"
        )
        message = self.refused("InvalidParameterValueException", 400, LAMBDA.tag_resource, Resource=ARN + name, Tags={})
        self.assertEqual(message, "An error occurred and the request cannot be processed.")
        many = {f"k{n}": "v" for n in range(51)}
        self.refused("InvalidParameterValueException", 400, LAMBDA.tag_resource, Resource=ARN + name, Tags=many)


class Permissions(Case):
    def test_they_are_kept_in_order(self):
        name = self.function()
        self.assertEqual(
            self.refused("ResourceNotFoundException", 404, LAMBDA.get_policy, FunctionName=name),
            "The resource you requested does not exist.",
        )
        self.assertEqual(
            self.refused("ResourceNotFoundException", 404, LAMBDA.remove_permission, FunctionName=name, StatementId="s3"),
            "No policy is associated with the given resource.",
        )
        made = LAMBDA.add_permission(
            FunctionName=name, StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com",
            SourceArn="arn:aws:s3:::bucket", SourceAccount="123456789012",
        )
        wanted = {
            "Sid": "s3",
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "lambda:InvokeFunction",
            "Resource": ARN + name,
            "Condition": {
                "StringEquals": {"AWS:SourceAccount": "123456789012"},
                "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"},
            },
        }
        self.assertEqual(json.loads(made["Statement"]), wanted)
        LAMBDA.add_permission(FunctionName=name, StatementId="other", Action="lambda:InvokeFunction", Principal="123456789012")
        got = LAMBDA.get_policy(FunctionName=name)
        policy = json.loads(got["Policy"])
        self.assertEqual((policy["Version"], policy["Id"]), ("2012-10-17", "default"))
        self.assertEqual([s["Sid"] for s in policy["Statement"]], ["s3", "other"])
        self.assertEqual(policy["Statement"][1]["Principal"], {"AWS": "arn:aws:iam::123456789012:root"})
        self.refused(
            "PreconditionFailedException", 412, LAMBDA.remove_permission, FunctionName=name, StatementId="s3", RevisionId="0" * 36
        )
        LAMBDA.remove_permission(FunctionName=name, StatementId="s3", RevisionId=got["RevisionId"])
        self.assertEqual(
            self.refused("ResourceNotFoundException", 404, LAMBDA.remove_permission, FunctionName=name, StatementId="s3"),
            "Statement s3 is not found in resource policy.",
        )

    def test_what_is_wrong_is_said(self):
        name = self.function()
        good = {"FunctionName": name, "StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"}
        LAMBDA.add_permission(**good)
        message = self.refused("ResourceConflictException", 409, LAMBDA.add_permission, **good)
        self.assertEqual(
            message, "The statement id (s) provided already exists. Please provide a new statement id, or remove the existing statement."
        )
        self.refused("ValidationException", 400, LAMBDA.add_permission, **{**good, "StatementId": "not a word"})
        self.refused("ValidationException", 400, LAMBDA.add_permission, **{**good, "Action": "s3:GetObject"})
        for field, bad in (
            ("SourceArn", "arn:aws"), ("SourceAccount", "1"), ("EventSourceToken", "a b"), ("PrincipalOrgID", "O-0123456789"),
            ("FunctionUrlAuthType", "SOME"),
        ):
            message = self.refused("ValidationException", 400, LAMBDA.add_permission, **{**good, "StatementId": "t", field: bad})
            self.assertIn(f"Value '{bad}' at '{field[0].lower()}{field[1:]}' failed to satisfy constraint: Member must satisfy", message)
        missing = "ResourceNotFoundException", 404
        for add, message in (
            ({"FunctionName": "nobody"}, f"Function not found: {ARN}nobody"),
            ({"Qualifier": "nobody"}, f"Cannot find alias arn: {ARN}{name}:nobody"),
            ({"Qualifier": "42"}, f"Function not found: {ARN}{name}:42"),
        ):
            self.assertEqual(self.refused(*missing, LAMBDA.add_permission, **{**good, **add}), message)
        message = self.refused("InvalidParameterValueException", 400, LAMBDA.add_permission, **good, Qualifier="$LATEST")
        self.assertEqual(message, "We currently do not support adding policies for $LATEST.")
        message = self.refused("PreconditionFailedException", 412, LAMBDA.add_permission, **{**good, "StatementId": "t"}, RevisionId="0" * 36)
        self.assertTrue(message.endswith("Call the GetPolicy API to retrieve the latest Revision Id"), message)
        for call, message in ((LAMBDA.get_policy, "The resource you requested does not exist."), (LAMBDA.remove_permission, f"No policy found for: {ARN}nobody")):
            more = {"StatementId": "s"} if call == LAMBDA.remove_permission else {}
            self.assertEqual(self.refused(*missing, call, FunctionName="nobody", **more), message)
        message = self.refused(*missing, LAMBDA.remove_permission, FunctionName=name, Qualifier="nobody", StatementId="s")
        self.assertEqual(message, f"Cannot find alias arn: {ARN}{name}:nobody")

    def test_a_policy_has_an_end(self):
        name = self.function()

        def add(number):
            LAMBDA.add_permission(
                FunctionName=name, StatementId=f"s{number}", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com",
                SourceArn="arn:aws:s3:::" + "b" * 9000,
            )

        add(1)
        add(2)
        message = self.refused("PolicyLengthExceededException", 400, add, number=3)
        self.assertRegex(message, r"^The final policy size \(2[78]\d{3}\) is bigger than the limit \(20480\)\.$")
        statements = json.loads(LAMBDA.get_policy(FunctionName=name)["Policy"])["Statement"]
        self.assertEqual([statement["Sid"] for statement in statements], ["s1", "s2"])

    def test_one_on_an_alias(self):
        name = self.function()
        LAMBDA.publish_version(FunctionName=name)
        LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        made = LAMBDA.add_permission(
            FunctionName=name, Qualifier="live", StatementId="s", Action="lambda:InvokeFunction", Principal="events.amazonaws.com"
        )
        self.assertEqual(json.loads(made["Statement"])["Resource"], f"{ARN}{name}:live")
        self.refused("ResourceNotFoundException", 404, LAMBDA.get_policy, FunctionName=name)
        self.assertIn("Policy", LAMBDA.get_policy(FunctionName=name, Qualifier="live"))

    def test_as_a_whole(self):
        name = self.function()
        LAMBDA.add_permission(FunctionName=name, StatementId="old", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com")
        policy = {
            "Version": "2012-10-17",
            "Statement": [{
                "Sid": "new", "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "lambda:InvokeFunction", "Resource": ARN + name,
            }],
        }
        put = LAMBDA.put_resource_policy(ResourceArn=ARN + name, Policy=json.dumps(policy))
        self.assertEqual(json.loads(put["Policy"]), policy)
        for got in (LAMBDA.get_resource_policy(ResourceArn=ARN + name), LAMBDA.get_policy(FunctionName=name)):
            self.assertEqual((json.loads(got["Policy"]), got["RevisionId"]), (policy, put["RevisionId"]))
        stale = {"ResourceArn": ARN + name, "RevisionId": "0123abcd-0000-0000-0000-0123456789ab"}
        for call, more in ((LAMBDA.put_resource_policy, {"Policy": json.dumps(policy)}), (LAMBDA.delete_resource_policy, {})):
            message = self.refused("PreconditionFailedException", 412, call, **stale, **more)
            self.assertIn("Call the GetResourcePolicy API to retrieve the latest Revision Id", message)
        message = self.refused("InvalidParameterValueException", 400, LAMBDA.put_resource_policy, ResourceArn=ARN + name, Policy="{}")
        self.assertEqual(message, "The provided policy is not valid: it has no Statement.")
        policy["Id"] = "ü" * 15000
        self.refused("PolicyLengthExceededException", 400, LAMBDA.put_resource_policy, ResourceArn=ARN + name, Policy=json.dumps(policy, ensure_ascii=False))
        gone = LAMBDA.delete_resource_policy(ResourceArn=ARN + name, RevisionId=put["RevisionId"])
        self.assertEqual(gone["ResponseMetadata"]["HTTPStatusCode"], 204)
        message = self.refused("ResourceNotFoundException", 404, LAMBDA.get_resource_policy, ResourceArn=ARN + name)
        self.assertEqual(message, "The resource you requested does not exist.")
        message = self.refused("ResourceNotFoundException", 404, LAMBDA.delete_resource_policy, ResourceArn=ARN + name)
        self.assertEqual(message, "No policy is associated with the given resource.")
        self.refused("ResourceNotFoundException", 404, LAMBDA.get_resource_policy, ResourceArn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:runtime/none")


class Sources(Case):
    ID = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"

    def test_there_are_none(self):
        name = self.function()
        queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"
        for given in ({}, {"FunctionName": name}, {"FunctionName": f"{ARN}{name}:live"}, {"EventSourceArn": queue, "MaxItems": 10}):
            self.assertEqual(LAMBDA.list_event_source_mappings(**given)["EventSourceMappings"], [])
        pages = LAMBDA.get_paginator("list_event_source_mappings").paginate(FunctionName=name)
        self.assertEqual(pages.build_full_result(), {"EventSourceMappings": []})
        self.assertEqual(aws("list-event-source-mappings", "--function-name", name), {"EventSourceMappings": []})
        for call in (LAMBDA.get_event_source_mapping, LAMBDA.update_event_source_mapping, LAMBDA.delete_event_source_mapping):
            message = self.refused("ResourceNotFoundException", 404, call, UUID=self.ID)
            self.assertEqual(message, "The resource you requested does not exist.")


class Absent(Case):
    """What is only asked about: inventories and deploy tools read it, and must find that there is none."""

    def test_capacity_providers(self):
        self.assertEqual(LAMBDA.list_capacity_providers(State="Active", MaxItems=50)["CapacityProviders"], [])
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:capacity-provider:p"
        for name in ("p", arn):
            for call in (
                LAMBDA.get_capacity_provider, LAMBDA.update_capacity_provider, LAMBDA.delete_capacity_provider,
                LAMBDA.list_function_versions_by_capacity_provider,
            ):
                message = self.refused("ResourceNotFoundException", 404, call, CapacityProviderName=name)
                self.assertEqual(message, f"Capacity provider not found: {arn}")

    def test_durable_executions(self):
        name = self.function()
        self.assertEqual(LAMBDA.list_durable_executions_by_function(FunctionName=name, Statuses=["RUNNING", "FAILED"])["DurableExecutions"], [])
        message = self.refused("ResourceNotFoundException", 404, LAMBDA.list_durable_executions_by_function, FunctionName="nobody")
        self.assertEqual(message, f"Function not found: {ARN}nobody")
        arn = f"{ARN}{name}:1/durable-execution/a/b"
        for call in (
            LAMBDA.get_durable_execution, LAMBDA.get_durable_execution_history, LAMBDA.stop_durable_execution,
            LAMBDA.pause_durable_execution, LAMBDA.resume_durable_execution, LAMBDA.delete_durable_execution,
        ):
            message = self.refused("ResourceNotFoundException", 404, call, DurableExecutionArn=arn)
            self.assertEqual(message, f"Durable execution not found: {arn}")


class Kept(Case):
    def test_recursion(self):
        name = self.function()
        self.assertEqual(LAMBDA.get_function_recursion_config(FunctionName=name)["RecursiveLoop"], "Terminate")
        LAMBDA.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
        self.assertEqual(LAMBDA.get_function_recursion_config(FunctionName=name)["RecursiveLoop"], "Allow")
        self.refused("ValidationException", 400, LAMBDA.put_function_recursion_config, FunctionName=name, RecursiveLoop="Maybe")

    def test_runtime_management(self):
        name = self.function()
        got = LAMBDA.get_runtime_management_config(FunctionName=name)
        self.assertEqual((got["UpdateRuntimeOn"], got["FunctionArn"]), ("Auto", f"{ARN}{name}:$LATEST"))
        LAMBDA.put_runtime_management_config(FunctionName=name, UpdateRuntimeOn="FunctionUpdate")
        self.assertEqual(LAMBDA.get_runtime_management_config(FunctionName=name)["UpdateRuntimeOn"], "FunctionUpdate")
        there = LAMBDA.get_function_configuration(FunctionName=name)["RuntimeVersionConfig"]["RuntimeVersionArn"]
        manual = {"FunctionName": name, "UpdateRuntimeOn": "Manual", "RuntimeVersionArn": there}
        LAMBDA.put_runtime_management_config(**manual)
        got = LAMBDA.get_runtime_management_config(FunctionName=name)
        self.assertEqual((got["UpdateRuntimeOn"], got["RuntimeVersionArn"]), ("Manual", there))
        put = LAMBDA.put_runtime_management_config
        for other in (there[:-1] + "x", None):
            wrong = {**manual, "RuntimeVersionArn": other} if other else {"FunctionName": name, "UpdateRuntimeOn": "Manual"}
            self.assertIn(there, self.refused("InvalidParameterValueException", 400, put, **wrong))
        self.refused("ResourceNotFoundException", 404, put, FunctionName=name, UpdateRuntimeOn="Auto", Qualifier="nobody")


class Tools(Case):
    """What deploy tools do, in their order."""

    def test_what_terraform_asks_on_every_refresh(self):
        name = self.function(Description="d", Tags={"managed": "yes"}, Environment={"Variables": {"AA": "1"}})
        LAMBDA.publish_version(FunctionName=name)
        LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        LAMBDA.add_permission(FunctionName=name, StatementId="api", Action="lambda:InvokeFunction", Principal="apigateway.amazonaws.com")

        def seen():
            calls = (
                LAMBDA.get_function(FunctionName=name),
                LAMBDA.get_function(FunctionName=name, Qualifier="live"),
                LAMBDA.list_versions_by_function(FunctionName=name, MaxItems=10000),
                LAMBDA.get_function_code_signing_config(FunctionName=name),
                LAMBDA.get_policy(FunctionName=name),
                LAMBDA.get_alias(FunctionName=name, Name="live"),
                LAMBDA.list_tags(Resource=ARN + name),
            )
            for answer in calls:
                answer.pop("ResponseMetadata")
                answer.get("Code", {}).pop("Location", None)
            return calls

        # A second look finds no difference, or there would be a plan.
        self.assertEqual(seen(), seen())

    def test_typed(self):
        name = self.function()
        aws("put-function-concurrency", "--function-name", name, "--reserved-concurrent-executions", "3")
        aws("tag-resource", "--resource", ARN + name, "--tags", "team=a,cost=b")
        self.assertEqual(aws("list-tags", "--resource", ARN + name)["Tags"], {"team": "a", "cost": "b"})
        aws("add-permission", "--function-name", name, "--statement-id", "s", "--action", "lambda:InvokeFunction", "--principal", "s3.amazonaws.com")
        self.assertIn("Statement", aws("get-policy", "--function-name", name)["Policy"])
        aws("delete-function-concurrency", "--function-name", name)
