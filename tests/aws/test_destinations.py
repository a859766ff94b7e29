"""What becomes of asynchronous calls, told to queues: of a service that speaks SQS and looks at every signature (`s3.py`). What AWS was recorded to
send is in the words of the tests."""

import json

from support import ARN, ECHO, LAMBDA, REGION, aws, native
from test_sources import SQS, Source

FAILS = "def handler(event, context):\n    raise ValueError('never')\n"


class Queues(Source):
    def message(self, url):
        """The one that comes."""

        def take():
            got = SQS.receive_message(QueueUrl=url, MessageAttributeNames=["All"], WaitTimeSeconds=1)
            return got.get("Messages")

        messages = self.until(take)
        self.assertEqual(len(messages), 1)
        return messages[0]

    def sent(self, name, payload, **more):
        answer = LAMBDA.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(payload), **more)
        self.assertEqual(answer["StatusCode"], 202)
        return answer["ResponseMetadata"]["RequestId"]

    def test_a_queue_is_told_how_a_call_ended(self):
        (good, good_arn), (bad, bad_arn) = self.queue(), self.queue()
        to = {"OnSuccess": {"Destination": good_arn}, "OnFailure": {"Destination": bad_arn}}
        for code, url, condition, more in (
            (ECHO, good, "Success", {"responsePayload": {"n": 1}}),
            (FAILS, bad, "RetriesExhausted", {}),
        ):
            name = self.function(code)
            put = LAMBDA.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0, DestinationConfig=to)
            self.assertEqual(put["DestinationConfig"], to)
            self.assertEqual(LAMBDA.get_function_event_invoke_config(FunctionName=name)["DestinationConfig"], to)
            self.assertEqual((native("GET", f"/functions/{name}")["on_success"], native("GET", f"/functions/{name}")["on_failure"]), (good_arn, bad_arn))
            request_id = self.sent(name, {"n": 1})
            message = self.message(url)
            self.assertNotIn("MessageAttributes", message)
            record = json.loads(message["Body"])
            self.assertEqual(
                record["requestContext"],
                {"requestId": request_id, "functionArn": f"{ARN}{name}:$LATEST", "condition": condition, "approximateInvokeCount": 1},
            )
            self.assertEqual(record["requestPayload"], {"n": 1})
            self.assertLessEqual(more.items(), record.items())

    def test_a_version_and_the_native_face_have_them_too(self):
        url, arn = self.queue()
        name = self.function(FAILS, Publish=True)
        LAMBDA.put_function_event_invoke_config(
            FunctionName=name, Qualifier="1", MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": arn}}
        )
        request_id = self.sent(name, 1, Qualifier="1")
        self.assertEqual(json.loads(self.message(url)["Body"])["requestContext"]["requestId"], request_id)
        native("PUT", f"/functions/{name}", {"on_failure": arn, "max_retries": 0})
        request_id = self.sent(name, 2)
        self.assertEqual(json.loads(self.message(url)["Body"])["requestContext"]["requestId"], request_id)

    def test_a_dead_letter_queue_has_what_failed(self):
        url, arn = self.queue()
        name = self.function(FAILS, DeadLetterConfig={"TargetArn": arn})
        LAMBDA.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
        request_id = self.sent(name, {"raise_error": 1})
        message = self.message(url)
        self.assertEqual(json.loads(message["Body"]), {"raise_error": 1})
        self.assertEqual(
            message["MessageAttributes"],
            {
                "ErrorCode": {"DataType": "Number", "StringValue": "200"},
                "ErrorMessage": {"DataType": "String", "StringValue": "never"},
                "RequestID": {"DataType": "String", "StringValue": request_id},
            },
        )
        # It is there, and nowhere else.
        self.assertEqual(native("GET", f"/invocations/{request_id}")["state"], "failed")
        dead = [one["request_id"] for one in native("GET", "/dead-letters/?limit=100")["items"]]
        self.assertNotIn(request_id, dead)
        # Nothing said changes nothing, an empty text takes it away.
        kept = LAMBDA.update_function_configuration(FunctionName=name, DeadLetterConfig={})
        self.assertEqual(kept["DeadLetterConfig"], {"TargetArn": arn})
        gone = LAMBDA.update_function_configuration(FunctionName=name, DeadLetterConfig={"TargetArn": ""})
        self.assertNotIn("DeadLetterConfig", gone)
        request_id = self.sent(name, {"raise_error": 2})
        self.until(lambda: request_id in [one["request_id"] for one in native("GET", "/dead-letters/?limit=100")["items"]])

    def test_a_destination_and_a_dead_letter_queue_are_both_told(self):
        (dead_url, dead), (told_url, told) = self.queue(), self.queue()
        name = self.function(FAILS, DeadLetterConfig={"TargetArn": dead})
        LAMBDA.put_function_event_invoke_config(
            FunctionName=name, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": told}}
        )
        request_id = self.sent(name, {"n": 1})
        record = json.loads(self.message(told_url)["Body"])
        self.assertEqual(record["requestContext"]["requestId"], request_id)
        message = self.message(dead_url)
        self.assertEqual(json.loads(message["Body"]), {"n": 1})
        self.assertEqual(message["MessageAttributes"]["RequestID"]["StringValue"], request_id)

    def test_what_may_not_run_is_told_apart(self):
        url, arn = self.queue()
        name = self.function(FAILS, DeadLetterConfig={"TargetArn": arn})
        LAMBDA.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        self.sent(name, {})
        attributes = self.message(url)["MessageAttributes"]
        self.assertEqual(attributes["ErrorCode"]["StringValue"], "429")

    def test_what_is_told_nothing(self):
        _, arn = self.queue()
        name = self.function()
        for wrong in (arn + ".fifo", arn + "-not-there", arn.replace(REGION, "us-west-2"), arn.replace(":sqs:", ":sns:")):
            self.refused(
                "InvalidParameterValueException", 400, LAMBDA.put_function_event_invoke_config,
                FunctionName=name, DestinationConfig={"OnFailure": {"Destination": wrong}},
            )

    def test_typed(self):
        _, arn = self.queue()
        name = self.function()
        aws("put-function-event-invoke-config", "--function-name", name, "--destination-config", json.dumps({"OnFailure": {"Destination": arn}}))
        got = aws("get-function-event-invoke-config", "--function-name", name)
        self.assertEqual(got["DestinationConfig"]["OnFailure"], {"Destination": arn})
