"""Functions that are called with the messages of queues: of a service that speaks SQS and looks at every signature (`s3.py`), in real containers.
What AWS was recorded to answer is in the words of the tests."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid

import boto3

from support import ACCOUNT, ARN, LAMBDA, REGION, ROLE, Case, Hearth, aws, native, package

with open(os.environ["S3_STORE"]) as file:
    STORE = json.load(file)
SQS = boto3.client(
    "sqs", endpoint_url=STORE["endpoint"], region_name=REGION, aws_access_key_id=STORE["owner"][0], aws_secret_access_key=STORE["owner"][1]
)
# What came is seen in its log: `got`, then each record.
TELLS = """
import json
def handler(event, context):
    print("got", len(event["Records"]))
    for record in event["Records"]:
        print("record", json.dumps(record))
    bad = [r for r in event["Records"] if "fail" in r["body"]]
    if bad and "raise" in bad[0]["body"]:
        raise RuntimeError("as asked")
    return {"batchItemFailures": [{"itemIdentifier": r["messageId"]} for r in bad]}
"""
GONE = "The resource you requested does not exist."


class Source(Case):
    def queue(self, name=None, **attributes):
        name = name or f"q-{uuid.uuid4().hex[:12]}"
        attributes = {"VisibilityTimeout": "300", **attributes}
        url = SQS.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.addCleanup(SQS.delete_queue, QueueUrl=url)
        arn = SQS.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    def map(self, function, arn, of=LAMBDA, **more):
        made = of.create_event_source_mapping(FunctionName=function, EventSourceArn=arn, **more)
        self.assertEqual(made["ResponseMetadata"]["HTTPStatusCode"], 202)
        self.addCleanup(self.unmap, of, made["UUID"])
        return made

    def unmap(self, of, mapping):
        try:
            of.delete_event_source_mapping(UUID=mapping)
        except of.exceptions.ResourceNotFoundException:
            pass

    def lines(self, function):
        return [line["text"] for line in native("GET", f"/functions/{function}/logs?limit=1000")["items"]]

    def records(self, function):
        lines = [line for line in self.lines(function) if line.startswith("record ")]
        return [json.loads(line.removeprefix("record ")) for line in lines]

    def bodies(self, function):
        return [record["body"] for record in self.records(function)]

    def left(self, url):
        """Messages that are there, whether or not somebody has them."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        return sum(int(n) for n in SQS.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values())


class Mappings(Source):
    def test_one_is_made_read_changed_and_gone(self):
        name, (_, arn) = self.function(TELLS), self.queue()
        made = self.map(name, arn)
        mapping = made["UUID"]
        self.assertEqual((made["State"], made["StateTransitionReason"], made["BatchSize"]), ("Creating", "USER_INITIATED", 10))
        self.assertEqual(made["FunctionArn"], ARN + name)
        self.assertEqual(made["EventSourceMappingArn"], f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{mapping}")
        self.assertEqual((made["MaximumBatchingWindowInSeconds"], made["FunctionResponseTypes"]), (0, []))
        self.assertLess(abs(made["LastModified"].timestamp() - time.time()), 60)
        self.assertEqual(
            sorted(made.keys() - {"ResponseMetadata"}),
            sorted(
                ["BatchSize", "EventSourceArn", "EventSourceMappingArn", "FunctionArn", "FunctionResponseTypes", "LastModified",
                 "MaximumBatchingWindowInSeconds", "State", "StateTransitionReason", "UUID"]
            ),
        )
        got = LAMBDA.get_event_source_mapping(UUID=mapping)
        self.assertEqual(got["State"], "Enabled")
        message = self.refused("ResourceConflictException", 409, LAMBDA.create_event_source_mapping, FunctionName=name, EventSourceArn=arn)
        self.assertEqual(
            message,
            f'An event source mapping with SQS arn (" {arn} ") and function (" {name} ") already exists. '
            f"Please update or delete the existing mapping with UUID {mapping}",
        )
        updated = LAMBDA.update_event_source_mapping(
            UUID=mapping, BatchSize=3, Enabled=False, ScalingConfig={"MaximumConcurrency": 2}, FunctionResponseTypes=["ReportBatchItemFailures"],
            FilterCriteria={"Filters": [{"Pattern": json.dumps({"body": {"a": [1]}})}]},
        )
        self.assertEqual((updated["State"], updated["BatchSize"]), ("Disabling", 3))
        got = LAMBDA.get_event_source_mapping(UUID=mapping)
        self.assertEqual(got["ScalingConfig"], {"MaximumConcurrency": 2})
        self.assertEqual((got["State"], got["FilterCriteria"]["Filters"]), ("Disabled", [{"Pattern": '{"body": {"a": [1]}}'}]))
        for given in ({"FunctionName": name}, {"EventSourceArn": arn}, {"FunctionName": ARN + name, "EventSourceArn": arn}):
            listed = LAMBDA.list_event_source_mappings(**given)["EventSourceMappings"]
            self.assertEqual([one["UUID"] for one in listed], [mapping], given)
        self.assertEqual(LAMBDA.list_event_source_mappings(FunctionName=f"{name}:live")["EventSourceMappings"], [])
        LAMBDA.tag_resource(Resource=made["EventSourceMappingArn"], Tags={"team": "a"})
        self.assertEqual(LAMBDA.list_tags(Resource=made["EventSourceMappingArn"])["Tags"], {"team": "a"})
        # As the CLI does it.
        self.assertEqual(aws("get-event-source-mapping", "--uuid", mapping)["UUID"], mapping)
        enabled = aws("update-event-source-mapping", "--uuid", mapping, "--enabled")
        self.assertEqual(enabled["State"], "Enabling")
        gone = LAMBDA.delete_event_source_mapping(UUID=mapping)
        self.assertEqual((gone["State"], gone["ResponseMetadata"]["HTTPStatusCode"]), ("Deleting", 202))
        for call in (LAMBDA.get_event_source_mapping, LAMBDA.update_event_source_mapping, LAMBDA.delete_event_source_mapping):
            self.assertEqual(self.refused("ResourceNotFoundException", 404, call, UUID=mapping), GONE)

    def test_what_is_wrong_is_refused_in_awss_words(self):
        name, (url, arn) = self.function(TELLS), self.queue()
        create, invalid = LAMBDA.create_event_source_mapping, "InvalidParameterValueException"
        fifo = arn + ".fifo"
        for given, says in (
            ({"EventSourceArn": arn, "FunctionName": "of-nobody"}, "Function does not exist"),
            ({"FunctionName": name}, "Unrecognized event source."),
            (
                {"FunctionName": name, "EventSourceArn": arn + "-none"},
                "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
                "SQS Error Message: The specified queue does not exist.",
            ),
            (
                {"FunctionName": name, "EventSourceArn": arn, "BatchSize": 11},
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
            ),
            (
                {"FunctionName": name, "EventSourceArn": fifo, "MaximumBatchingWindowInSeconds": 1},
                "Batching window is not supported for FIFO queues",
            ),
            (
                {"FunctionName": name, "EventSourceArn": arn, "StartingPosition": "LATEST"},
                "StartingPosition is not valid for SQS event sources.",
            ),
            (
                {"FunctionName": name, "EventSourceArn": arn, "DestinationConfig": {"OnSuccess": {"Destination": arn}}},
                "Unsupported DestinationConfig parameter for given event source mapping type.",
            ),
            (
                {"FunctionName": name, "EventSourceArn": arn, "FilterCriteria": {"Filters": [{"Pattern": "simple string"}]}},
                "Invalid filter pattern definition.",
            ),
        ):
            self.assertEqual(self.refused(invalid, 400, create, **given), says)
        stream = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"
        said = self.refused(invalid, 400, create, FunctionName=name, EventSourceArn=stream, StartingPosition="LATEST")
        self.assertIn("Amazon Kinesis as an event source is not supported", said)
        SQS.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "2"})
        said = self.refused(invalid, 400, create, FunctionName=name, EventSourceArn=arn)
        self.assertEqual(said, "Queue visibility timeout: 2 seconds is less than Function timeout: 3 seconds")
        self.assertEqual(LAMBDA.list_event_source_mappings(FunctionName=name)["EventSourceMappings"], [])


class Messages(Source):
    def test_what_is_sent_comes_as_on_aws_and_is_gone(self):
        name, (url, arn) = self.function(TELLS), self.queue()
        sent = SQS.send_message(
            QueueUrl=url, MessageBody="héllo", MessageAttributes={
                "Title": {"StringValue": "The Whistler", "DataType": "String"}, "Raw": {"BinaryValue": b"\0\1", "DataType": "Binary"},
            },
        )
        self.map(name, arn)
        [record] = self.until(lambda: self.records(name))
        self.assertEqual(
            (record["messageId"], record["body"], record["md5OfBody"]), (sent["MessageId"], "héllo", sent["MD5OfMessageBody"])
        )
        self.assertEqual(
            record["messageAttributes"],
            {
                "Title": {"stringValue": "The Whistler", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
                "Raw": {"binaryValue": "AAE=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
            },
        )
        self.assertEqual(record["md5OfMessageAttributes"], sent["MD5OfMessageAttributes"])
        self.assertEqual((record["eventSource"], record["eventSourceARN"], record["awsRegion"]), ("aws:sqs", arn, REGION))
        self.assertEqual(record["attributes"]["ApproximateReceiveCount"], "1")
        self.assertLessEqual({"SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"}, record["attributes"].keys())
        self.assertTrue(record["receiptHandle"])
        self.until(lambda: self.left(url) == 0)
        # Many, while it runs.
        for n in range(3):
            SQS.send_message_batch(QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": f"{n}-{i}"} for i in range(10)])
        self.until(lambda: len(self.records(name)) == 31)
        self.until(lambda: self.left(url) == 0)

    def test_a_batch_is_gathered(self):
        name, (url, arn) = self.function(TELLS), self.queue()
        for n in range(3):
            SQS.send_message_batch(QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": f"{n}-{i}"} for i in range(10)])
        self.map(name, arn, BatchSize=30, MaximumBatchingWindowInSeconds=300)
        self.until(lambda: self.left(url) == 0)
        got = [line for line in self.lines(name) if line.startswith("got ")]
        self.assertEqual(got, ["got 30"])

    def test_what_is_said_to_have_failed_comes_again(self):
        name, (url, arn) = self.function(TELLS), self.queue(VisibilityTimeout="5")
        SQS.send_message_batch(QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": body} for i, body in enumerate(("a", "fail", "b"))])
        made = self.map(name, arn, FunctionResponseTypes=["ReportBatchItemFailures"])
        self.until(lambda: self.left(url) == 1)
        again = self.until(lambda: [r for r in self.records(name) if r["body"] == "fail" and r["attributes"]["ApproximateReceiveCount"] == "2"])
        self.assertTrue(again)
        self.assertEqual(sorted(body for body in self.bodies(name) if body != "fail"), ["a", "b"])
        result = LAMBDA.get_event_source_mapping(UUID=made["UUID"])["LastProcessingResult"]
        self.assertRegex(result, r"^PROBLEM: the function failed to handle 1 of \d messages$")

    def test_a_function_that_fails_gets_all_of_them_again(self):
        name = self.function(TELLS)
        _, dead = self.queue()
        dead_url = SQS.get_queue_url(QueueName=dead.split(":")[-1])["QueueUrl"]
        url, arn = self.queue(VisibilityTimeout="5", RedrivePolicy=json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": 2}))
        SQS.send_message(QueueUrl=url, MessageBody="fail raise")
        made = self.map(name, arn)
        self.until(lambda: len(self.records(name)) == 2)
        self.until(lambda: self.left(dead_url) == 1)
        self.assertEqual(self.left(url), 0)
        self.assertEqual(self.bodies(name), ["fail raise"] * 2)
        result = LAMBDA.get_event_source_mapping(UUID=made["UUID"])["LastProcessingResult"]
        self.assertEqual(result, "PROBLEM: RuntimeError: as asked")

    def test_filters(self):
        name, (url, arn) = self.function(TELLS), self.queue()
        pattern = {"body": {"kind": ["order"], "total": [{"numeric": [">", 10]}]}}
        for body in ("no JSON", '{"kind": "order", "total": 5}', '{"kind": "mail", "total": 50}', '{"kind": "order", "total": 50}'):
            SQS.send_message(QueueUrl=url, MessageBody=body)
        self.map(name, arn, FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)}]})
        self.until(lambda: self.left(url) == 0)
        self.assertEqual(self.bodies(name), ['{"kind": "order", "total": 50}'])

    def test_fifo_queues_keep_the_order_of_each_group(self):
        name = self.function(TELLS)
        url, arn = self.queue(f"q-{uuid.uuid4().hex[:12]}.fifo", FifoQueue="true", ContentBasedDeduplication="true")
        for n in range(12):
            SQS.send_message(QueueUrl=url, MessageBody=f"{n}", MessageGroupId=f"g{n % 2}")
        self.map(name, arn, BatchSize=3)
        self.until(lambda: self.left(url) == 0)
        records = self.records(name)
        for group in ("g0", "g1"):
            numbers = [int(r["body"]) for r in records if r["attributes"]["MessageGroupId"] == group]
            self.assertEqual(numbers, sorted(numbers))
            self.assertEqual(len(numbers), 6)

    def test_only_one_that_is_enabled_is_read(self):
        name, (url, arn) = self.function(TELLS), self.queue()
        made = self.map(name, arn, Enabled=False)
        self.assertEqual(made["State"], "Disabled")
        SQS.send_message(QueueUrl=url, MessageBody="one")
        time.sleep(2)
        self.assertEqual((self.left(url), self.records(name)), (1, []))
        LAMBDA.update_event_source_mapping(UUID=made["UUID"], Enabled=True)
        self.until(lambda: self.left(url) == 0)
        LAMBDA.update_event_source_mapping(UUID=made["UUID"], Enabled=False)
        SQS.send_message(QueueUrl=url, MessageBody="two")
        time.sleep(2)
        self.assertEqual((self.left(url), self.bodies(name)), (1, ["one"]))
        LAMBDA.delete_event_source_mapping(UUID=made["UUID"])

    def test_another_function_and_an_alias(self):
        first, second, (url, arn) = self.function(TELLS), self.function(TELLS), self.queue()
        LAMBDA.publish_version(FunctionName=second)
        LAMBDA.create_alias(FunctionName=second, Name="live", FunctionVersion="1")
        made = self.map(first, arn)
        SQS.send_message(QueueUrl=url, MessageBody="one")
        self.until(lambda: self.bodies(first) == ["one"])
        updated = LAMBDA.update_event_source_mapping(UUID=made["UUID"], FunctionName=f"{second}:live")
        self.assertEqual((updated["State"], updated["FunctionArn"]), ("Updating", f"{ARN}{second}:live"))
        SQS.send_message(QueueUrl=url, MessageBody="two")
        self.until(lambda: self.bodies(second) == ["two"])
        self.assertEqual(self.bodies(first), ["one"])

    def test_a_mapping_outlives_its_function(self):
        name, (url, arn) = self.function(TELLS), self.queue()
        made = self.map(name, arn)
        LAMBDA.delete_function(FunctionName=name)
        self.assertEqual(LAMBDA.get_event_source_mapping(UUID=made["UUID"])["State"], "Enabled")


class Servers(Source):
    def hearth(self, **more):
        key, secret = STORE["hearth"]
        return Hearth(self, **{
            "aws.sqs.endpoint": STORE["endpoint"], "aws.sqs.access_key": key, "aws.sqs.secret_key": secret, "aws.sqs.timeout": "2s",
            **more,
        })

    def make(self, hearth, name, code=TELLS):
        settings = {"Runtime": "python3.13", "Handler": "app.handler", "Role": ROLE}
        hearth.client.create_function(FunctionName=name, Code={"ZipFile": package(code)}, **settings)


class Faults(Servers):

    def test_a_restart_keeps_them_and_a_service_that_stands_still_is_asked_again(self):
        hearth, (url, arn) = self.hearth(), self.queue(VisibilityTimeout="10")
        self.make(hearth, "f")
        made = hearth.client.create_event_source_mapping(FunctionName="f", EventSourceArn=arn)
        SQS.send_message(QueueUrl=url, MessageBody="one")
        self.until(lambda: self.left(url) == 0)
        hearth.stop()
        hearth.start()
        got = hearth.client.get_event_source_mapping(UUID=made["UUID"])
        self.assertEqual((got["State"], got["LastModified"]), ("Enabled", made["LastModified"]))
        SQS.send_message(QueueUrl=url, MessageBody="two")
        self.until(lambda: self.left(url) == 0)

        self.addCleanup(os.kill, STORE["pid"], signal.SIGCONT)
        os.kill(STORE["pid"], signal.SIGSTOP)
        said = self.refused(
            "ServiceException", 500, hearth.client.create_event_source_mapping, FunctionName="f:$LATEST", EventSourceArn=arn
        )
        self.assertEqual(said, "The queue could not be looked at: the queues' service did not answer GetQueueUrl within 2s.")
        problem = lambda: hearth.client.get_event_source_mapping(UUID=made["UUID"]).get("LastProcessingResult")
        self.assertRegex(self.until(problem), "^PROBLEM: the queues' service did not answer ReceiveMessage within 22s$")
        os.kill(STORE["pid"], signal.SIGCONT)
        SQS.send_message(QueueUrl=url, MessageBody="three")
        self.until(lambda: self.left(url) == 0, 90)
        self.until(lambda: problem() is None)
        text = hearth.metrics()
        counted = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("hearth_source_"))
        for outcome in ("messages", "failed"):
            self.assertGreaterEqual(int(counted[f'hearth_source_polls_total{{outcome="{outcome}"}}']), 1)
        # Since it was started again.
        self.assertGreaterEqual(int(counted['hearth_source_messages_total{outcome="handled"}']), 2)


class Shared(Servers):
    # When it was called with which message, and until when.
    CODE = """
import time
def handler(event, context):
    since = time.time()
    time.sleep(event.get("seconds", 0.2))
    for record in event.get("Records", []):
        print("ran", record["body"], since, time.time())
"""
    MOST = 2

    def redis(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        socket = os.path.join(folder, "redis.sock")
        command = ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        server = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL)
        self.addCleanup(server.wait, 60)
        self.addCleanup(server.terminate)
        self.until(lambda: os.path.exists(socket))
        return f"redis+unix://{socket}"

    def ran(self, *hearths):
        """What messages a function was called with, on these processes."""
        lines = [line["text"] for hearth in hearths for line in json.loads(hearth.get("/functions/f/logs?limit=1000"))["items"]]
        words = [line.split() for line in lines if line.startswith("ran ")]
        return [(body, float(since), float(until)) for _, body, since, until in words]

    def together(self, ran):
        """The most that ran at the same time."""
        begins = [since for _, since, _ in ran]
        return max(sum(since <= begin < until for _, since, until in ran) for begin in begins)

    def send(self, url, bodies):
        for at in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[at : at + 10])]
            SQS.send_message_batch(QueueUrl=url, Entries=entries)

    def test_two_processes_share_a_queue_and_one_goes_on_without_the_other(self):
        url, arn = self.queue()
        store = {"store.url": self.redis(), "limits.lease": "3s"}
        first, second = self.hearth(**store), self.hearth(**store)
        self.make(first, "f", self.CODE)
        warm = lambda hearth: hearth.client.invoke(FunctionName="f", Payload=b'{"seconds": 0}')
        warm(first)

        def known():
            try:
                return warm(second)
            except second.client.exceptions.ResourceNotFoundException:
                return None

        self.until(known)
        made = first.client.create_event_source_mapping(
            FunctionName="f", EventSourceArn=arn, BatchSize=1, ScalingConfig={"MaximumConcurrency": self.MOST}
        )
        self.addCleanup(lambda: second.client.delete_event_source_mapping(UUID=made["UUID"]))
        bodies = [f"a-{n}" for n in range(40)]
        self.send(url, bodies)
        self.until(lambda: self.left(url) == 0)
        ran = self.ran(first, second)
        self.assertEqual(sorted(body for body, _, _ in ran), sorted(bodies), "each of them once")
        self.assertTrue(self.ran(first) and self.ran(second), "both have some")
        self.assertLessEqual(self.together(ran), self.MOST)

        # What the dead one has in hand is shown again, and its places are the other's.
        SQS.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "5"})
        self.send(url, [f"b-{n}" for n in range(40)])
        self.until(lambda: any(body.startswith("b") for body, _, _ in self.ran(first)))
        first.kill()
        # Whatever happens, what its workers were is cleared away.
        self.addCleanup(lambda: first.server or first.start())
        self.until(lambda: self.left(url) == 0)

        def alone():
            self.send(url, [f"c-{n}" for n in range(10)])
            self.until(lambda: self.left(url) == 0)
            ran = [one for one in self.ran(second) if one[0].startswith("c")]
            return self.together(ran) == self.MOST

        self.until(alone)
        self.assertLessEqual(self.together(self.ran(second)), self.MOST)
        # And it takes part again.
        first.start()
        self.until(lambda: self.send(url, ["d"]) or any(body == "d" for body, _, _ in self.ran(first)))
