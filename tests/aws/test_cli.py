"""The aws CLI, as it is typed."""

import json
import os
import tempfile

from support import ARN, ECHO, ROLE, Case, aws, log, package, written


class Typing(Case):
    def test_the_first_steps(self):
        name = self.name()
        code = written(package(ECHO), ".zip")
        self.addCleanup(os.unlink, code)
        made = aws(
            "create-function", "--function-name", name, "--runtime", "python3.12", "--role", ROLE, "--handler", "app.handler",
            "--zip-file", f"fileb://{code}", "--environment", "Variables={GREETING=hello}", "--timeout", "10",
        )
        self.assertEqual(made["FunctionArn"], ARN + name)
        aws("wait", "function-active-v2", "--function-name", name)
        with tempfile.TemporaryDirectory() as directory:
            out = f"{directory}/out.json"
            answer = aws("invoke", "--function-name", name, "--payload", '{"a": 1}', "--log-type", "Tail", out)
            with open(out) as file:
                self.assertEqual(json.load(file), {"a": 1})
        self.assertEqual((answer["StatusCode"], answer["ExecutedVersion"]), (200, "$LATEST"))
        self.assertIn("called\n", log(answer))

        other = written(package("def handler(event, context):\n    return 'second'\n"), ".zip")
        self.addCleanup(os.unlink, other)
        aws("update-function-code", "--function-name", name, "--zip-file", f"fileb://{other}")
        aws("wait", "function-updated-v2", "--function-name", name)
        with tempfile.TemporaryDirectory() as directory:
            aws("invoke", "--function-name", ARN + name, f"{directory}/out.json")
            with open(f"{directory}/out.json") as file:
                self.assertEqual(json.load(file), "second")
        aws("update-function-configuration", "--function-name", name, "--memory-size", "256")
        got = aws("get-function", "--function-name", name)
        self.assertEqual(got["Configuration"]["MemorySize"], 256)
        listed = aws("list-functions", "--query", "Functions[].FunctionName")
        self.assertIn(name, listed)
        aws("delete-function", "--function-name", name)
        gone = aws("get-function", "--function-name", name, check=False)
        self.assertNotEqual(gone.returncode, 0)
        self.assertIn(f"(ResourceNotFoundException) when calling the GetFunction operation: Function not found: {ARN}{name}", gone.stderr)
