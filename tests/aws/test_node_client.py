"""AWS's own client for Node.js, `aws-lambda-ric` as it is on npm, in an image and a real container. It is compiled where it is installed."""

import base64
import json

import projects
from support import ARN, LAMBDA, log
from test_images import Images

PROJECT = projects.HERE / "image-node"


class AwsLambdaRic(Images):
    @classmethod
    def setUpClass(cls):
        client = projects.node_modules("image-node") / "aws-lambda-ric"
        cls.node = cls.build(
            "node",
            f"""FROM {projects.of_runtime("nodejs20.x")}
# It is no runtime's any more.
LABEL hearth.runtime=""
USER root
COPY dist /function/node_modules/aws-lambda-ric/dist
COPY bin /function/node_modules/aws-lambda-ric/bin
COPY package.json /function/node_modules/aws-lambda-ric/package.json
COPY index.mjs /function/index.mjs
RUN chmod -R a+rX /function
WORKDIR /function
ENTRYPOINT ["node", "/function/node_modules/aws-lambda-ric/bin/index.mjs"]
CMD ["index.handler"]
""",
            {"dist": client / "dist", "bin": client / "bin", "package.json": client / "package.json", "index.mjs": PROJECT / "index.mjs"},
        )

    def made(self, **settings):
        return super().made(self.node, **settings)[0]

    def streamed(self, name, pieces):
        answer = LAMBDA.invoke_with_response_stream(FunctionName=name, Payload=json.dumps({"pieces": pieces}))
        events = list(answer["EventStream"])
        body = b"".join(event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event)
        prelude, body = body.split(bytes(8), 1)
        return json.loads(prelude), body, events[-1]["InvokeComplete"]

    def test_the_event_and_the_context(self):
        name = self.made()
        context = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
        body, answer = self.call(name, {"do": "describe"}, ClientContext=context, LogType="Tail")
        self.assertNotIn("FunctionError", answer, body)
        self.assertEqual(body["id"], answer["ResponseMetadata"]["RequestId"])
        self.assertEqual((body["function"], body["arn"]), ([name, "$LATEST", "256"], ARN + name))
        self.assertEqual((body["custom"], body["handler"]), ({"k": "v"}, "index.handler"))
        self.assertTrue(0 < body["remaining"] <= 30_000, body)
        self.assertIn("called describe", log(answer))
        event = {"a": [1, "žluťoučký kůň 🐎", None]}
        self.assertEqual(self.call(name, event)[0], event)

    def test_errors_are_its_own_words(self):
        name = self.made()
        body, answer = self.call(name, {"do": "fail"})
        self.assertEqual(answer["FunctionError"], "Unhandled")
        self.assertEqual((body["errorType"], body["errorMessage"]), ("RangeError", "žluťoučký kůň"))
        self.assertIn("index.mjs", body["trace"][1])
        body, answer = self.call(name, {"do": "exit"})
        request_id = answer["ResponseMetadata"]["RequestId"]
        said = f"RequestId: {request_id} Error: Runtime exited with error: exit status 3"
        self.assertEqual(body, {"errorType": "Runtime.ExitError", "errorMessage": said})
        self.assertEqual(self.call(name, {"n": 1})[0], {"n": 1})

    def test_a_stream_and_one_that_breaks(self):
        name = self.made(ImageConfig={"Command": ["index.stream"]})
        head = {"statusCode": 201, "headers": {"x-of": "the function"}}
        self.assertEqual(self.streamed(name, ["one ", "two"]), (head, b"one two", {}))
        got, body, end = self.streamed(name, ["one ", 2])
        self.assertEqual((got, body), (head, b"one "))
        self.assertEqual(end["ErrorCode"], "Unhandled")
        self.assertEqual(json.loads(end["ErrorDetails"])["errorMessage"], "no such piece: 2")
        self.assertEqual(self.streamed(name, ["again"]), (head, b"again", {}))
