"""AWS's own runtime clients as bootstraps in real containers: `awslambdaric` as it is on PyPI, `lambda_runtime` as it is on crates.io. (What
the latter does to the shim is among the cases in runtimes/provided/contract; here it streams to AWS's clients.)"""

import base64
import json
import pathlib

import projects
from support import ARN, LAMBDA, ROLE, Case, log, package


class Awslambdaric(Case):
    @classmethod
    def setUpClass(cls):
        cls.zip = projects.python("ric", projects.interpreter())

    def made(self, **settings):
        name = self.name()
        given = {"Runtime": "provided.al2023", "Handler": "app.handler", "Role": ROLE, "MemorySize": 256, "Timeout": 30, **settings}
        LAMBDA.create_function(FunctionName=name, Code={"ZipFile": self.zip}, **given)
        return name

    def test_the_event_and_the_context(self):
        name = self.made()
        given = {"custom": {"k": "v"}, "env": {}, "client": {"installation_id": "i", "app_title": "title ž"}}
        context = base64.b64encode(json.dumps(given).encode()).decode()
        body, answer = self.call(name, {"do": "describe"}, ClientContext=context, LogType="Tail")
        self.assertNotIn("FunctionError", answer, body)
        self.assertEqual(body["request_id"], answer["ResponseMetadata"]["RequestId"])
        self.assertEqual(body["function"], [name, "$LATEST", "256"])
        self.assertEqual(body["arn"], ARN + name)
        self.assertEqual(body["log"][0], f"/aws/lambda/{name}")
        self.assertTrue(0 < body["remaining"] <= 30_000, body)
        self.assertEqual((body["custom"], body["app_title"], body["identity"]), ({"k": "v"}, "title ž", None))
        self.assertIn("called 1\n", log(answer))
        body, _ = self.call(name, {"do": "describe"}, Qualifier="$LATEST")
        self.assertEqual((body["calls"], body["custom"], body["arn"]), (2, None, f"{ARN}{name}:$LATEST"))
        event = {"a": [1, "žluťoučký kůň 🐎", None]}
        self.assertEqual(self.call(name, event)[0], event)

    def test_errors_are_its_own_words(self):
        name = self.made()
        answer = LAMBDA.invoke(FunctionName=name, Payload=b'{"do": "fail"}', LogType="Tail")
        request_id = answer["ResponseMetadata"]["RequestId"]
        self.assertEqual(answer["FunctionError"], "Unhandled")
        text = answer["Payload"].read().decode()
        body = json.loads(text)
        # In its order, and nothing more.
        self.assertEqual(list(body), ["errorMessage", "errorType", "requestId", "stackTrace"])
        self.assertEqual((body["errorType"], body["requestId"]), ("Odd", request_id))
        self.assertEqual(body["errorMessage"], "('žluťoučký kůň', 7)")
        self.assertIn('File "/var/task/app.py"', body["stackTrace"][-1])
        self.assertIn("[ERROR] Odd", log(answer))
        body, answer = self.call(name, {"do": "odd"})
        self.assertEqual((answer["FunctionError"], body["errorType"]), ("Unhandled", "Runtime.MarshalError"))
        self.assertEqual(self.call(name, {"n": 1})[0], {"n": 1})

    def test_an_answer_that_is_too_large(self):
        name = self.made(MemorySize=512)
        body, answer = self.call(name, {"do": "long", "bytes": 6_291_554})
        self.assertNotIn("FunctionError", answer)
        self.assertEqual(len(body), 6_291_554)
        body, answer = self.call(name, {"do": "long", "bytes": 6_291_555})
        self.assertEqual((answer["FunctionError"], body["errorType"]), ("Unhandled", "Function.ResponseSizeTooLarge"))
        self.assertEqual(self.call(name, {"n": 1})[0], {"n": 1})

    def test_what_cannot_be_loaded(self):
        body, answer = self.call(self.made(Handler="nothing.handler"))
        self.assertEqual((answer["FunctionError"], body["errorType"]), ("Unhandled", "Runtime.ImportModuleError"))
        self.assertEqual(body["errorMessage"], "Unable to import module 'nothing': No module named 'nothing'")
        self.assertEqual(body["requestId"], "")
        body, _ = self.call(self.made(Handler="app.nobody"))
        self.assertEqual((body["errorType"], body["errorMessage"]), ("Runtime.HandlerNotFound", "Handler 'nobody' missing on module 'app'"))

    def test_ends(self):
        name = self.made(Timeout=2)
        body, answer = self.call(name, {"do": "exit", "status": 3})
        request_id = answer["ResponseMetadata"]["RequestId"]
        self.assertEqual(
            body,
            {
                "errorType": "Runtime.ExitError",
                "errorMessage": f"RequestId: {request_id} Error: Runtime exited with error: exit status 3",
            },
        )
        body, answer = self.call(name, {"do": "sleep", "seconds": 60})
        self.assertEqual((answer["FunctionError"], body["errorType"]), ("Unhandled", "Sandbox.Timedout"))
        self.assertEqual(self.call(name, {"n": 1})[0], {"n": 1})

    def test_with_a_wrapper(self):
        name = self.made(Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}})
        self.assertEqual(self.call(name, {"do": "describe"})[0]["wrapped"], "wrapper")
        name = self.made(Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/no-wrapper"}})
        body, answer = self.call(name, {})
        request_id = answer["ResponseMetadata"]["RequestId"]
        self.assertEqual(
            body,
            {
                "errorType": "Runtime.ExitError",
                "errorMessage": f"RequestId: {request_id} Error: Runtime exited with error: exit status 127",
            },
        )


class LambdaRuntime(Case):
    PRELUDE = b'{"statusCode":200,"headers":{"content-type":"application/octet-stream"},"cookies":["seen=1"]}' + bytes(8)

    def setUp(self):
        # Built by run.sh.
        bootstrap = pathlib.Path(__file__).parents[2] / "runtimes/provided/contract/rust/bin/bootstrap"
        self.made = self.name()
        LAMBDA.create_function(
            FunctionName=self.made, Runtime="provided.al2023", Handler="rust", Role=ROLE, Timeout=20,
            Code={"ZipFile": package({"bootstrap": bootstrap.read_bytes()})},
        )

    def streamed(self, event):
        answer = LAMBDA.invoke_with_response_stream(FunctionName=self.made, Payload=json.dumps(event))
        events = list(answer["EventStream"])
        pieces = [event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event]
        return b"".join(pieces), events[-1]["InvokeComplete"]

    def test_a_stream(self):
        event = {"do": "stream", "pieces": ["one ", "two"]}
        self.assertEqual(self.streamed(event), (self.PRELUDE + b"one two", {}))
        # A plain call gets it whole.
        answer = LAMBDA.invoke(FunctionName=self.made, Payload=json.dumps(event))
        self.assertNotIn("FunctionError", answer)
        self.assertEqual(answer["Payload"].read(), self.PRELUDE + b"one two")

    def test_a_stream_that_breaks(self):
        body, end = self.streamed({"do": "stream", "pieces": ["one ", 2]})
        self.assertEqual(body, self.PRELUDE + b"one ")
        self.assertEqual(end["ErrorCode"], "Unhandled")
        self.assertEqual(json.loads(end["ErrorDetails"])["errorMessage"], "no such piece: 2")
        self.assertEqual(self.streamed({"n": 1}), (b'{"n":1}', {}))

    def test_an_error(self):
        body, answer = self.call(self.made, {"do": "fail", "thing": "unicorn"})
        self.assertEqual(answer["FunctionError"], "Unhandled")
        self.assertEqual(body, {"errorType": "ContractError", "errorMessage": 'no such thing: "unicorn"'})
