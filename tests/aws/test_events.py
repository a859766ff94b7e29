"""How asynchronous calls are run: settings of a function, a version and an alias, and what comes of them."""

import json

from support import ACCOUNT, ARN, ECHO, LAMBDA, REGION, Case, aws, client, native

FAILS = "def handler(event, context):\n    raise ValueError('never')\n"
# Prints the whole record it was given.
KEEPS = """\
import json
def handler(event, context):
    print("kept", event["requestContext"]["requestId"], json.dumps(event))
"""
# Prints whose record it was given, and as what it was called.
TAKES = """\
def handler(event, context):
    asked = event["requestContext"]
    arn = context.invoked_function_arn
    print("taken", asked["requestId"], asked["condition"], asked["functionArn"], arn, asked["approximateInvokeCount"])
"""


def untimed(answer):
    answer.pop("ResponseMetadata")
    answer.pop("LastModified")
    return answer


class Events(Case):
    def published(self, code=ECHO):
        name = self.function(code)
        LAMBDA.publish_version(FunctionName=name)
        LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        return name

    def taken(self, name, request_id):
        """The record of a call that a function was given, as it printed it."""

        def find():
            lines = native("GET", f"/functions/{name}/logs")["items"]
            words = [line["text"].split(" ") for line in lines if line["text"].startswith("taken ")]
            return next((found[2:] for found in words if found[1] == request_id), None)

        return self.until(find)


class Settings(Events):
    def test_they_are_set_changed_and_taken_away(self):
        name = self.published()
        bare = {"OnSuccess": {}, "OnFailure": {}}
        latest = {"FunctionArn": f"{ARN}{name}:$LATEST", "DestinationConfig": bare}
        put = LAMBDA.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
        self.assertEqual(untimed(put), {**latest, "MaximumRetryAttempts": 0})
        # What was not given is not there, or tools would find a difference.
        put = LAMBDA.put_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=60)
        self.assertEqual(untimed(put), {**latest, "MaximumEventAgeInSeconds": 60})
        both = {**latest, "MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 1}
        update = LAMBDA.update_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
        self.assertEqual(untimed(update), both)
        for qualifier in ({}, {"Qualifier": "$LATEST"}):
            got = LAMBDA.get_function_event_invoke_config(FunctionName=name, **qualifier)
            self.assertEqual(untimed(got), both)
        seen = native("GET", f"/functions/{name}")
        self.assertEqual((seen["max_retries"], seen["max_event_age"]), (1, 60))
        for called, qualifier in ((f"{name}:1", "1"), (f"{ARN}{name}:live", "live")):
            put = LAMBDA.put_function_event_invoke_config(FunctionName=called, MaximumEventAgeInSeconds=120)
            self.assertEqual(put["FunctionArn"], f"{ARN}{name}:{qualifier}")
        pages = LAMBDA.get_paginator("list_function_event_invoke_configs")
        pages = pages.paginate(FunctionName=name, PaginationConfig={"PageSize": 2})
        found = [one["FunctionArn"] for page in pages for one in page["FunctionEventInvokeConfigs"]]
        self.assertEqual(found, [f"{ARN}{name}:{qualifier}" for qualifier in ("$LATEST", "1", "live")])
        for qualifier in ("$LATEST", "1", "live"):
            gone = LAMBDA.delete_function_event_invoke_config(FunctionName=name, Qualifier=qualifier)
            self.assertEqual(gone["ResponseMetadata"]["HTTPStatusCode"], 204)
        self.assertEqual(LAMBDA.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"], [])

    def test_what_is_not_there(self):
        name = self.published()
        once = {"MaximumRetryAttempts": 1}
        missing = "ResourceNotFoundException", 404
        for call in (LAMBDA.put_function_event_invoke_config, LAMBDA.update_function_event_invoke_config):
            for of in ({"FunctionName": "nobody"}, {"FunctionName": name, "Qualifier": "nobody"}, {"FunctionName": ARN + "nobody"}):
                self.assertEqual(self.refused(*missing, call, **of, **once), "The function doesn't exist.")
        self.assertEqual(
            self.refused(*missing, LAMBDA.list_function_event_invoke_configs, FunctionName="nobody"), "The function doesn't exist."
        )
        for of, arn in (
            ({"FunctionName": name}, f"{name}:$LATEST"),
            ({"FunctionName": name, "Qualifier": "live"}, f"{name}:live"),
            ({"FunctionName": name, "Qualifier": "1221"}, f"{name}:1221"),
            ({"FunctionName": "nobody"}, "nobody:$LATEST"),
        ):
            for call in (LAMBDA.get_function_event_invoke_config, LAMBDA.delete_function_event_invoke_config):
                message = self.refused(*missing, call, **of)
                self.assertEqual(message, f"The function {ARN}{arn} doesn't have an EventInvokeConfig")
        message = self.refused(*missing, LAMBDA.update_function_event_invoke_config, FunctionName=name, **once)
        self.assertEqual(message, f"The function {ARN}{name}:$LATEST doesn't have an EventInvokeConfig")
        self.assertEqual(
            self.refused("InvalidParameterValueException", 400, LAMBDA.put_function_event_invoke_config, FunctionName="nobody"),
            "You must specify at least one of error handling or destination setting.",
        )
        self.assertEqual(
            self.refused(
                "InvalidParameterValueException", 400, LAMBDA.put_function_event_invoke_config,
                FunctionName=f"{name}:live", Qualifier="1", **once,
            ),
            "The derived qualifier from the function name does not match the specified qualifier.",
        )

    def test_what_no_destination_can_be(self):
        name = self.function()
        other = self.function()
        queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:of-nobody"
        topic = queue.replace(":sqs:", ":sns:")
        made_up = ARN.replace(":lambda:", ":iam:") + name
        for destination, message in (
            (ARN + "nobody", f"The destination ARN {ARN}nobody is invalid."),
            (ARN + name, "You can't specify the function as a destination for itself."),
            (queue, f"The destination ARN {queue} is invalid."),
            (topic, f"The destination ARN {topic} is invalid. Hearth sends to nothing by that name: aws.destinations in its configuration may say what it stands for."),
            (made_up, f"The provided destination config DestinationConfig(onSuccess=OnSuccess(destination={made_up}), onFailure=null) is invalid."),
        ):
            got = self.refused(
                "InvalidParameterValueException", 400, LAMBDA.put_function_event_invoke_config,
                FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": destination}},
            )
            self.assertEqual(got, message)
        unchecked = client()
        bad = ARN.replace(":lambda:", ":_-/!lambda:") + name
        message = self.refused(
            "ValidationException", 400, unchecked.put_function_event_invoke_config,
            FunctionName=name, DestinationConfig={"OnFailure": {"Destination": bad}},
        )
        self.assertTrue(
            message.startswith(
                f"1 validation error detected: Value '{bad}' at 'destinationConfig.onFailure.destination' failed to satisfy constraint: Member must satisfy regular expression pattern: $|kafka://"
            ),
            message,
        )
        self.refused("ResourceNotFoundException", 404, LAMBDA.get_function_event_invoke_config, FunctionName=name)
        for config in ({"OnSuccess": {}}, {"OnFailure": {}}, {}, {"OnSuccess": {"Destination": ARN + other}}):
            put = LAMBDA.put_function_event_invoke_config(FunctionName=name, DestinationConfig=config)
            got = LAMBDA.get_function_event_invoke_config(FunctionName=name)
            self.assertEqual(untimed(got), untimed(put))
            self.assertEqual(got["DestinationConfig"], {"OnSuccess": {}, "OnFailure": {}, **config})

    def test_typed(self):
        name = self.function()
        aws("put-function-event-invoke-config", "--function-name", name, "--maximum-retry-attempts", "0", "--maximum-event-age-in-seconds", "3600")
        got = aws("get-function-event-invoke-config", "--function-name", name)
        self.assertEqual((got["MaximumRetryAttempts"], got["MaximumEventAgeInSeconds"]), (0, 3600))
        self.assertGreater(got["LastModified"], 1e9)
        aws("delete-function-event-invoke-config", "--function-name", name)
        failed = aws("get-function-event-invoke-config", "--function-name", name, check=False)
        self.assertIn("doesn't have an EventInvokeConfig", failed.stderr)


class Runs(Events):
    def test_each_call_has_the_settings_of_what_it_was_for(self):
        name = self.published(FAILS)
        taker = self.published(TAKES)
        other = self.published(TAKES)
        to = lambda arn: {"OnFailure": {"Destination": arn}}
        LAMBDA.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0, DestinationConfig=to(ARN + taker))
        LAMBDA.put_function_event_invoke_config(
            FunctionName=name, Qualifier="1", MaximumRetryAttempts=0, DestinationConfig=to(f"{ARN}{taker}:live")
        )
        LAMBDA.put_function_event_invoke_config(
            FunctionName=name, Qualifier="live", MaximumRetryAttempts=0, DestinationConfig=to(f"{ARN}{other}:1")
        )
        for qualifier, by, called in (("$LATEST", taker, ""), ("1", taker, ":live"), ("live", other, ":1")):
            answer = LAMBDA.invoke(FunctionName=name, Qualifier=qualifier, InvocationType="Event", Payload=b"{}")
            request_id = answer["ResponseMetadata"]["RequestId"]
            condition, arn, as_what, count = self.taken(by, request_id)
            self.assertEqual(
                (condition, arn, as_what, count),
                ("RetriesExhausted", f"{ARN}{name}:{qualifier}", f"{ARN}{by}{called}", "1"),
            )

    def kept(self, name, request_id):
        """The record of a call, all of it but for its time."""

        def find():
            lines = native("GET", f"/functions/{name}/logs")["items"]
            begin = f"kept {request_id} "
            return next((line["text"][len(begin):] for line in lines if line["text"].startswith(begin)), None)

        record = json.loads(self.until(find))
        self.assertRegex(record.pop("timestamp"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        return record

    def record(self, settings, payload=b'{"n": 1}', reserved=None):
        """The record of an event that fails, without what belongs to it alone."""
        name, taker = self.function(FAILS), self.function(KEEPS)
        to = {"OnFailure": {"Destination": ARN + taker}}
        LAMBDA.put_function_event_invoke_config(FunctionName=name, DestinationConfig=to, **settings)
        if reserved is not None:
            LAMBDA.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
        answer = LAMBDA.invoke(FunctionName=name, InvocationType="Event", Payload=payload)
        request_id = answer["ResponseMetadata"]["RequestId"]
        record = self.kept(taker, request_id)
        self.assertEqual(record["requestContext"].pop("requestId"), request_id)
        self.assertEqual(record["requestContext"].pop("functionArn"), f"{ARN}{name}:$LATEST")
        if "responsePayload" in record:
            # As a caller is told.
            self.assertEqual(record["responsePayload"].pop("requestId"), request_id)
            self.assertIn("raise ValueError", "".join(record["responsePayload"].pop("stackTrace")))
        return record

    def test_a_record_has_the_error_as_a_caller_gets_it(self):
        for settings, condition in (
            ({"MaximumRetryAttempts": 0}, "RetriesExhausted"),
            # The first retry would come a minute later: nobody waits for it.
            ({"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 60}, "EventAgeExceeded"),
        ):
            self.assertEqual(
                self.record(settings),
                {
                    "version": "1.0",
                    "requestContext": {"condition": condition, "approximateInvokeCount": 1},
                    "requestPayload": {"n": 1},
                    "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
                    "responsePayload": {"errorMessage": "never", "errorType": "ValueError"},
                },
            )

    def test_events_of_a_function_that_may_not_run(self):
        self.assertEqual(
            self.record({}, reserved=0),
            {
                "version": "1.0",
                "requestContext": {"condition": "ZeroReservedConcurrency", "approximateInvokeCount": 0},
                "requestPayload": {"n": 1},
            },
        )

    def test_a_version_and_an_alias_do_not_have_those_of_latest(self):
        name = self.published(FAILS)
        taker = self.function(TAKES)
        LAMBDA.put_function_event_invoke_config(
            FunctionName=name, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": ARN + taker}}
        )
        ids = {}
        for qualifier in ("1", "live", "$LATEST"):
            answer = LAMBDA.invoke(FunctionName=name, Qualifier=qualifier, InvocationType="Event", Payload=b"{}")
            ids[qualifier] = answer["ResponseMetadata"]["RequestId"]
        self.assertTrue(self.taken(taker, ids["$LATEST"]))
        for qualifier in ("1", "live"):
            # By default, it is tried again a minute after it failed.
            path = f"/invocations/{ids[qualifier]}"
            self.until(lambda: native("GET", path)["attempts"] == 1 and native("GET", path)["state"] == "queued")

    def test_a_queue_that_something_stands_for(self):
        queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:failed"
        name = self.function(FAILS)
        to = {"OnFailure": {"Destination": queue}}
        message = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.put_function_event_invoke_config, FunctionName=name, DestinationConfig=to
        )
        self.assertEqual(message, f"The destination ARN {queue} is invalid.")
        self.addCleanup(self.remove, "failed")
        self.function(TAKES, FunctionName="failed")
        LAMBDA.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0, DestinationConfig=to)
        got = LAMBDA.get_function_event_invoke_config(FunctionName=name)
        self.assertEqual(got["DestinationConfig"], {"OnSuccess": {}, **to})
        answer = LAMBDA.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps({"n": 1}))
        condition, *_ = self.taken("failed", answer["ResponseMetadata"]["RequestId"])
        self.assertEqual(condition, "RetriesExhausted")
