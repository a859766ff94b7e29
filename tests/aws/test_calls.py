"""Calling functions: now, later and not at all; what they answer, what they print and how they fail."""

import base64
import json
import re

from botocore.exceptions import EventStreamError  # noqa: F401  (what a broken stream raises)

from support import ARN, LAMBDA, REGION, Case, client, log

NODE = {"index.mjs": "export const handler = async (event) => { if (event.fail) throw new TypeError('on purpose'); return {twice: 2 * event.n}; };\n"}


class Answering(Case):
    def test_echo(self):
        name = self.function()
        body, answer = self.call(name, {"a": [1, "é", None]})
        self.assertEqual(body, {"a": [1, "é", None]})
        self.assertEqual((answer["StatusCode"], answer["ExecutedVersion"]), (200, "$LATEST"))
        self.assertNotIn("FunctionError", answer)
        self.assertNotIn("LogResult", answer)
        self.assertRegex(answer["ResponseMetadata"]["RequestId"], r"^[0-9a-f-]{36}$")

    def test_without_a_payload_the_event_is_empty(self):
        self.assertEqual(self.call(self.function())[0], {})

    def test_by_arn_and_with_a_qualifier(self):
        name = self.function("def handler(event, context):\n    return context.invoked_function_arn\n")
        self.assertEqual(self.call(ARN + name)[0], ARN + name)
        self.assertEqual(self.call(name, Qualifier="$LATEST")[0], f"{ARN}{name}:$LATEST")

    def test_the_request_id_is_one_everywhere(self):
        code = "def handler(event, context):\n    print('id', context.aws_request_id)\n    return context.aws_request_id\n"
        body, answer = self.call(self.function(code), LogType="Tail")
        self.assertEqual(body, answer["ResponseMetadata"]["RequestId"])
        self.assertIn(f"id {body}\n", log(answer))

    def test_the_log_is_as_on_aws(self):
        code = "def handler(event, context):\n    print('one')\n    print('two')\n"
        body, answer = self.call(self.function(code), LogType="Tail")
        self.assertIsNone(body)
        self.assertRegex(
            log(answer),
            r"^START RequestId: (\S+) Version: \$LATEST\none\ntwo\nEND RequestId: \1\n"
            r"REPORT RequestId: \1\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\t",
        )

    def test_only_the_end_of_a_long_log(self):
        code = "def handler(event, context):\n    for n in range(1000):\n        print('line', n)\n"
        _, answer = self.call(self.function(code), LogType="Tail")
        text = log(answer)
        self.assertEqual(len(text.encode()), 4096)
        self.assertIn("line 999\nEND RequestId", text)
        self.assertNotIn("line 0\n", text)

    def test_client_context(self):
        code = "def handler(event, context):\n    return [context.client_context.custom, context.client_context.env]\n"
        given = {"custom": {"k": "v"}, "env": {"locale": "de"}, "client": {"installation_id": "i"}}
        encoded = base64.b64encode(json.dumps(given).encode()).decode()
        body, answer = self.call(self.function(code), ClientContext=encoded)
        self.assertEqual(body, [{"k": "v"}, {"locale": "de"}], answer)
        message = self.refused("InvalidRequestContentException", 400, LAMBDA.invoke, FunctionName=self.function(), ClientContext="!")
        self.assertIn("Client context", message)

    def test_node(self):
        name = self.function(NODE, Runtime="nodejs22.x", Handler="index.handler")
        self.assertEqual(self.call(name, {"n": 21})[0], {"twice": 42})
        body, answer = self.call(name, {"fail": True})
        self.assertEqual(answer["FunctionError"], "Unhandled")
        self.assertEqual((body["errorType"], body["errorMessage"]), ("TypeError", "on purpose"))
        self.assertIsInstance(body["trace"], list)
        self.assertNotIn("stackTrace", body)

    def test_the_log_of_node_is_as_on_aws(self):
        code = {
            "index.mjs": "export const handler = async (event) => { console.log('one', { a: 1 }); console.error('two\\nlines'); console.debug('three');"
            " process.stdout.write('bare\\n'); if (event.fail) throw new RangeError('no'); };\n"
        }
        name = self.function(code, Runtime="nodejs22.x", Handler="index.handler")
        _, answer = self.call(name, {}, LogType="Tail")
        at = answer["ResponseMetadata"]["RequestId"]
        before = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t" + at
        printed = (
            f"^START RequestId: {at} Version: \\$LATEST\n{before}\tINFO\tone {{ a: 1 }}\n{before}\tERROR\ttwo\nlines\n{before}\tDEBUG\tthree\nbare\n"
        )
        self.assertRegex(log(answer), printed + f"END RequestId: {at}\n")
        _, answer = self.call(name, {"fail": True}, LogType="Tail")
        error = re.search(r"\tERROR\tInvoke Error \t({.*})\nEND", log(answer))
        error = json.loads(error[1])
        self.assertEqual((error["errorType"], error["errorMessage"], error["stack"][0]), ("RangeError", "no", "RangeError: no"))

    def test_what_interpreters_read_when_they_start(self):
        code = {"app.py": "import own\ndef handler(event, context):\n    return own.WORD\n", "lib/more/own.py": "WORD = 'found'\n"}
        paths = {"PYTHONPATH": "/var/task/lib:/var/task/lib/more"}
        self.assertEqual(self.call(self.function(code, Environment={"Variables": paths}))[0], "found")
        code = {
            "index.js": "exports.handler = async () => { try { thrown(); } catch (error) { return [globalThis.seen, error.stack.split('\\n')[1]]; } };\n"
            "//# sourceMappingURL=index.js.map\n",
            # Its one line is the second of another file.
            "index.js.map": json.dumps({"version": 3, "sources": ["source.ts"], "names": [], "mappings": "AACA"}),
            # As tracing does it.
            "first/one.cjs": "const { Module } = require('module'), { require: real } = Module.prototype; globalThis.seen = ['required'];\n"
            "Module.prototype.require = function (name) { if (name === '/var/task/index.js') seen.push('handler'); return real.call(this, name); };\n",
            "node_modules/two/package.json": '{"exports": {"import": "./two.mjs"}}',
            "node_modules/two/two.mjs": "globalThis.seen.push('package');",
            "own three.mjs": "globalThis.seen.push(typeof await 3);",
        }
        options = {"NODE_OPTIONS": '--import two --enable-source-maps --max-http-header-size=9000 -r ./first/one.cjs --import="./own three.mjs"'}
        node = {"Runtime": "nodejs20.x", "Handler": "index.handler"}
        name = self.function(code, Environment={"Variables": options}, **node)
        seen, place = self.call(name)[0]
        self.assertEqual(seen, ["required", "package", "number", "handler"])
        self.assertIn("/var/task/source.ts:2:", place)
        own = {"index.js": "await null;\nexport const handler = async () => globalThis.seen;", "one.mjs": "globalThis.seen = await 'seen';"}
        for more in ({}, {"package.json": '{"type": "module"}'}):
            name = self.function({**own, **more}, Environment={"Variables": {"NODE_OPTIONS": "--import ./one.mjs"}}, **node)
            self.assertEqual(self.call(name)[0], "seen")
        failed, _ = self.call(self.function(code, Environment={"Variables": {"NODE_OPTIONS": "--require ./none"}}, **node))
        self.assertEqual(failed["errorType"], "Error")
        self.assertIn("Cannot find module './none'", failed["errorMessage"])

    def test_a_log_of_json(self):
        python = (
            "import logging, os\nlog = logging.getLogger()\n"
            "def handler(event, context):\n    log.info('told', extra={'n': 1})\n    log.debug('not told')\n    return [os.environ['AWS_LAMBDA_LOG_GROUP_NAME'], context.log_group_name]\n"
        )
        node = {
            "app.mjs": "export const handler = async (event, context) => { console.info({ told: 1 }); console.debug('not told');"
            " return [process.env.AWS_LAMBDA_LOG_GROUP_NAME, context.logGroupName]; };\n"
        }
        for code, runtime, wanted in ((python, "python3.13", {"message": "told", "n": 1}), (node, "nodejs22.x", {"message": {"told": 1}})):
            name = self.function(code, Runtime=runtime, LoggingConfig={"LogFormat": "JSON", "LogGroup": "/mine"})
            body, answer = self.call(name, {}, LogType="Tail")
            self.assertEqual(body, ["/mine", "/mine"])
            printed = [json.loads(line) for line in log(answer).splitlines() if line.startswith("{")]
            (line,) = printed
            at = answer["ResponseMetadata"]["RequestId"]
            self.assertEqual({key: line[key] for key in ("level", "requestId", *wanted)}, {"level": "INFO", "requestId": at, **wanted})
            LAMBDA.update_function_configuration(FunctionName=name, LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG"})
            self.assertEqual(len(re.findall(r"not told", log(self.call(name, {}, LogType="Tail")[1]))), 1)
            LAMBDA.update_function_configuration(FunctionName=name, LoggingConfig={"LogFormat": "Text"})
            self.assertNotIn("{\"", log(self.call(name, {}, LogType="Tail")[1]))

    def test_a_dry_run_runs_nothing(self):
        name = self.function("raise SystemExit(3)\n")
        body, answer = self.call(name, InvocationType="DryRun")
        self.assertEqual((body, answer["StatusCode"]), (None, 204))
        self.refused("ResourceNotFoundException", 404, LAMBDA.invoke, FunctionName="nobody", InvocationType="DryRun")

    def test_six_mebibytes_each_way(self):
        name = self.function(Timeout=30, MemorySize=512)
        event = "x" * (6 * 1024 * 1024 - 2)
        self.assertEqual(self.call(name, event)[0], event)


class Failing(Case):
    def test_an_exception(self):
        code = "def handler(event, context):\n    return [1, {}['gone']]\n"
        body, answer = self.call(self.function(code), LogType="Tail")
        self.assertEqual((answer["StatusCode"], answer["FunctionError"]), (200, "Unhandled"))
        self.assertEqual((body["errorType"], body["errorMessage"]), ("KeyError", "'gone'"))
        self.assertEqual(body["requestId"], answer["ResponseMetadata"]["RequestId"])
        # AWS underlines nothing in it.
        self.assertEqual(body["stackTrace"], ['  File "/var/task/app.py", line 2, in handler\n    return [1, {}[\'gone\']]\n'])
        self.assertIn("END RequestId", log(answer))

    def test_an_exception_of_a_module_that_is_loaded(self):
        """As AWS was recorded."""
        body, answer = self.call(self.function("raise Exception('Runtime startup fails')\n"))
        self.assertEqual(answer["FunctionError"], "Unhandled")
        self.assertEqual((body["errorType"], body["errorMessage"], body["requestId"]), ("Exception", "Runtime startup fails", ""))
        stack = body["stackTrace"]
        self.assertRegex(
            stack[0],
            r'^  File "/\S+/importlib/__init__\.py", line \d+, in import_module\n    return _bootstrap\._gcd_import\(name\[level:\], package, level\)\n$',
        )
        names = ["_gcd_import", "_find_and_load", "_find_and_load_unlocked", "_load_unlocked", "exec_module", "_call_with_frames_removed"]
        for frame, name in zip(stack[1:-1], names, strict=True):
            self.assertRegex(frame, rf'^  File "<frozen importlib\._bootstrap(_external)?>", line \d+, in {name}\n$')
        self.assertEqual(stack[-1], '  File "/var/task/app.py", line 1, in <module>\n    raise Exception(\'Runtime startup fails\')\n')

    def test_a_time_out(self):
        code = "import time\ndef handler(event, context):\n    time.sleep(event.get('for', 0))\n    return 'woke'\n"
        name = self.function(code, Timeout=1)
        body, answer = self.call(name, {"for": 20}, LogType="Tail")
        request_id = answer["ResponseMetadata"]["RequestId"]
        self.assertEqual((answer["StatusCode"], answer["FunctionError"]), (200, "Unhandled"))
        self.assertEqual(
            body,
            {
                "errorType": "Sandbox.Timedout",
                "errorMessage": f"RequestId: {request_id} Error: Task timed out after 1.00 seconds",
            },
        )
        told = rf"\n\d{{4}}-\S+Z {request_id} Task timed out after 1\.00 seconds\n\nEND RequestId: {request_id}\nREPORT .*\tStatus: timeout\n$"
        self.assertRegex(log(answer), told)
        self.assertEqual(self.call(name, {})[0], "woke")

    def test_an_exit(self):
        name = self.function("import os\ndef handler(event, context):\n    os._exit(event['code'])\n")
        for code, how in ((3, "Runtime exited with error: exit status 3"), (0, "Runtime exited without providing a reason")):
            body, answer = self.call(name, {"code": code}, LogType="Tail")
            self.assertEqual(answer["FunctionError"], "Unhandled")
            request_id = answer["ResponseMetadata"]["RequestId"]
            self.assertEqual(body, {"errorType": "Runtime.ExitError", "errorMessage": f"RequestId: {request_id} Error: {how}"})
            told = f"\n{body['errorMessage']}\nRuntime.ExitError\nEND RequestId: {request_id}\nREPORT "
            self.assertIn(told, log(answer))
            self.assertTrue(log(answer).endswith("\tStatus: error\tError Type: Runtime.ExitError\n"), log(answer))

    def test_code_that_does_not_load(self):
        body, answer = self.call(self.function("print('loading')\nimport nothing_like_this\n"), LogType="Tail")
        self.assertEqual(answer["FunctionError"], "Unhandled")
        self.assertEqual(body["errorType"], "Runtime.ImportModuleError")
        self.assertEqual(body["errorMessage"], "Unable to import module 'app': No module named 'nothing_like_this'")
        self.assertEqual(body["requestId"], "")
        # It was printed before there was a call.
        self.assertRegex(log(answer), r"^loading\n\[ERROR\] Runtime.ImportModuleError: (.*\n)+START RequestId: .*\nEND RequestId: ")
        self.assertTrue(log(answer).endswith("\tStatus: error\tError Type: Runtime.ImportModuleError\n"), log(answer))

    def test_a_handler_there_is_not(self):
        body, answer = self.call(self.function(Handler="app.nobody"))
        self.assertEqual(answer["FunctionError"], "Unhandled")
        self.assertEqual((body["errorType"], body["errorMessage"]), ("Runtime.HandlerNotFound", "Handler 'nobody' missing on module 'app'"))

    def test_who_it_runs_as_has_a_name(self):
        code = "import getpass, os\ndef handler(event, context):\n    os.environ.pop('USER', None)\n    return getpass.getuser()\n"
        self.assertEqual(self.call(self.function(code))[0], "sbx_user1051")
        code = {"index.mjs": "import os from 'node:os';\nexport const handler = async () => os.userInfo().username;\n"}
        name = self.function(code, Runtime="nodejs20.x", Handler="index.handler")
        self.assertEqual(self.call(name)[0], "sbx_user1051")

    def test_boto3_is_there_and_a_package_may_bring_its_own(self):
        code = "import boto3\nTABLES = boto3.client('dynamodb')\ndef handler(event, context):\n    return TABLES.meta.region_name\n"
        name = self.function(code, MemorySize=512, Timeout=30)
        self.assertEqual(self.call(name)[0], REGION)
        own = {"app.py": "import boto3\ndef handler(event, context):\n    return boto3.OWN\n", "boto3.py": "OWN = True\n"}
        self.assertIs(self.call(self.function(own))[0], True)

    def test_every_call_has_an_id_for_a_trace(self):
        code = "import os\nOUTSIDE = os.environ.get('_X_AMZN_TRACE_ID')\ndef handler(event, context):\n    return [OUTSIDE, os.environ['_X_AMZN_TRACE_ID']]\n"
        name = self.function(code)
        seen = [self.call(name)[0] for _ in range(2)]
        for outside, inside in seen:
            self.assertIsNone(outside)
            self.assertRegex(inside, "^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0$")
        self.assertNotEqual(*seen)
        # Or what the caller has.
        given = "Root=1-3152b799-8954dae64eda91bc9a23a7e8;Parent=7fa8c0f79203be72;Sampled=1"
        own = client()
        own.meta.events.register("before-send.lambda.*", lambda request, **_: request.headers.__setitem__("X-Amzn-Trace-Id", given))
        self.assertEqual(json.load(own.invoke(FunctionName=name)["Payload"]), [None, given])

    def test_an_answer_that_is_too_large(self):
        body, answer = self.call(self.function("def handler(event, context):\n    return 'x' * (7 << 20)\n", MemorySize=256, Timeout=30))
        self.assertEqual(answer["FunctionError"], "Unhandled")
        message = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
        self.assertEqual(body, {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message})

    def test_a_payload_that_is_no_json(self):
        message = self.refused("InvalidRequestContentException", 400, LAMBDA.invoke, FunctionName=self.function(), Payload=b"{no")
        self.assertTrue(message.startswith("Could not parse request body into json: Could not parse payload into json: "))

    def test_a_payload_that_is_too_large(self):
        name = self.function()
        message = self.refused(
            "RequestEntityTooLargeException", 413, LAMBDA.invoke, FunctionName=name, Payload=b'"' + b"x" * (6 << 20) + b'"'
        )
        self.assertEqual(message, "Request must be smaller than 6291456 bytes for the InvokeFunction operation")
        self.refused(
            "RequestEntityTooLargeException", 413, LAMBDA.invoke,
            FunctionName=name, InvocationType="Event", Payload=b'"' + b"x" * (1 << 20) + b'"',
        )

    def test_a_function_there_is_not(self):
        message = self.refused("ResourceNotFoundException", 404, LAMBDA.invoke, FunctionName="nobody")
        self.assertEqual(message, f"Function not found: {ARN}nobody:$LATEST")

    def test_an_unknown_kind_of_call(self):
        self.refused("ValidationException", 400, LAMBDA.invoke, FunctionName="f", InvocationType="Perhaps")
        # What is no ASCII is no reason to take it for nothing.
        self.refused("ValidationException", 400, LAMBDA.invoke, FunctionName="f", LogType="Naïve")
        context = {"FunctionName": self.function(), "ClientContext": "é"}
        self.refused("InvalidRequestContentException", 400, LAMBDA.invoke, **context)

    def test_what_only_other_functions_have(self):
        name = self.function()
        for more in ({"TenantId": "blue"}, {"DurableExecutionName": "once"}):
            self.refused("InvalidParameterValueException", 400, LAMBDA.invoke, FunctionName=name, **more)


class Later(Case):
    def test_an_event_is_run_after_its_answer(self):
        code = "def handler(event, context):\n    print('ran', event['n'])\n"
        name = self.function(code)
        body, answer = self.call(name, {"n": 7}, InvocationType="Event")
        self.assertEqual((body, answer["StatusCode"]), (None, 202))
        self.assertNotIn("ExecutedVersion", answer)

        def ran():
            _, now = self.call(name, {"n": 0}, LogType="Tail")
            return now

        self.until(ran)
        self.assertEqual(self.state(answer["ResponseMetadata"]["RequestId"]), "succeeded")

    def state(self, request_id):
        """As the native face tells it: both show the same calls."""
        import os
        import urllib.request

        def ended():
            request = urllib.request.Request(
                f"{os.environ['HEARTH_URL']}/invocations/{request_id}",
                headers={"Authorization": f"Bearer {os.environ['HEARTH_KEY']}"},
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                state = json.load(response)["state"]
            return state if state in ("succeeded", "failed") else None

        return self.until(ended)

    def test_the_old_way(self):
        name = self.function()
        answer = LAMBDA.invoke_async(FunctionName=name, InvokeArgs=b"{}")
        self.assertEqual(answer["Status"], 202)


class Streaming(Case):
    STREAM = {
        "index.mjs": "export const handler = awslambda.streamifyResponse(async (event, out) => {"
        " for (let n = 0; n < 3; n++) out.write(`part ${n}\\n`);"
        " if (event.fail) throw new RangeError('midway');"
        " out.end(); });\n"
    }

    def events(self, name, **parameters):
        answer = LAMBDA.invoke_with_response_stream(FunctionName=name, **parameters)
        pieces, end = [], None
        for event in answer["EventStream"]:
            if "PayloadChunk" in event:
                pieces.append(event["PayloadChunk"]["Payload"])
            else:
                end = event["InvokeComplete"]
        return b"".join(pieces), end, answer

    def test_a_stream(self):
        name = self.function(self.STREAM, Runtime="nodejs20.x", Handler="index.handler")
        body, end, answer = self.events(name, LogType="Tail")
        self.assertEqual(body, b"part 0\npart 1\npart 2\n")
        self.assertNotIn("ErrorCode", end)
        at = answer["ResponseMetadata"]["RequestId"]
        tail = base64.b64decode(end["LogResult"]).decode()
        self.assertRegex(tail, f"^START RequestId: {at} Version: \\$LATEST\nEND RequestId: {at}\nREPORT RequestId: {at}\t")
        self.assertEqual(answer["ExecutedVersion"], "$LATEST")
        self.assertEqual(answer["ResponseStreamContentType"], "application/vnd.amazon.eventstream")
        # A plain call gets it whole.
        plain = LAMBDA.invoke(FunctionName=name)
        self.assertEqual(plain["Payload"].read(), b"part 0\npart 1\npart 2\n")

    def test_a_stream_that_breaks(self):
        name = self.function(self.STREAM, Runtime="nodejs20.x", Handler="index.handler")
        body, end, _ = self.events(name, Payload=b'{"fail": true}')
        self.assertTrue(body.startswith(b"part 0\n"))
        self.assertEqual(end["ErrorCode"], "Unhandled")
        self.assertEqual(json.loads(end["ErrorDetails"])["errorType"], "RangeError")

    def test_a_function_that_does_not_stream(self):
        body, end, _ = self.events(self.function(), Payload=b'{"a": 1}')
        self.assertEqual((json.loads(body), end), ({"a": 1}, {}))

    def test_a_failure_before_the_first_piece(self):
        name = self.function("def handler(event, context):\n    raise ValueError('no')\n")
        body, end, answer = self.events(name)
        self.assertEqual((body, answer["StatusCode"]), (b"", 200))
        self.assertEqual(end["ErrorCode"], "Unhandled")
        self.assertEqual(json.loads(end["ErrorDetails"])["errorMessage"], "no")

    def test_a_function_there_is_not(self):
        self.refused("ResourceNotFoundException", 404, LAMBDA.invoke_with_response_stream, FunctionName="nobody")
