"""Projects with dependencies of others, packed as people pack them, unmodified."""

import json
import os
import shutil
import unittest

import projects
from support import ARN, LAMBDA, ROLE, Case, log


def url_event(method, path, query="", body=None):
    """What a function URL sends."""
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"host": "id.lambda-url.us-east-1.on.aws", "content-type": "application/json"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "id",
            "domainName": "id.lambda-url.us-east-1.on.aws",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test"},
            "requestId": "correlated",
            "routeKey": "$default",
            "stage": "$default",
            "time": "29/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1795953600000,
        },
        "isBase64Encoded": False,
    }
    if query:
        event["queryStringParameters"] = dict(part.split("=") for part in query.split("&"))
    if body is not None:
        event["body"] = json.dumps(body)
    return event


class Made(Case):
    def made(self, zip_file, **settings):
        name = self.name()
        given = {"Runtime": "python3.13", "Handler": "app.handler", "Role": ROLE, "MemorySize": 256, "Timeout": 30, **settings}
        LAMBDA.create_function(FunctionName=name, Code={"ZipFile": zip_file}, **given)
        LAMBDA.get_waiter("function_active_v2").wait(FunctionName=name)
        return name


class Projects(Made):
    def test_powertools(self):
        name = self.made(
            projects.python("powertools"),
            Environment={"Variables": {"POWERTOOLS_TRACE_DISABLED": "true", "POWERTOOLS_LOG_LEVEL": "INFO"}},
        )
        body, answer = self.call(name, url_event("GET", "/items/tea", "who=Ada"), LogType="Tail")
        self.assertNotIn("FunctionError", answer, body)
        self.assertEqual((body["statusCode"], json.loads(body["body"])), (200, {"name": "tea", "who": "Ada"}))
        lines = [json.loads(line) for line in log(answer).splitlines() if line.startswith("{")]
        found = next(line for line in lines if line.get("message") == "found")
        self.assertEqual((found["item"], found["service"], found["function_name"]), ("tea", "shop", name))
        self.assertEqual(found["function_request_id"], answer["ResponseMetadata"]["RequestId"])
        self.assertEqual((found["correlation_id"], found["cold_start"]), ("correlated", True))
        metrics = [line for line in lines if "_aws" in line]
        self.assertTrue(any(line.get("Found") == [1.0] for line in metrics), lines)
        self.assertTrue(any(line.get("ColdStart") == [1.0] for line in metrics), lines)
        self.assertEqual(metrics[0]["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Shop")
        body, _ = self.call(name, url_event("POST", "/items", body={"name": "cup"}))
        self.assertEqual((body["statusCode"], json.loads(body["body"])), (201, {"made": "cup"}))
        for path in ("/items/nothing", "/nowhere"):
            body, _ = self.call(name, url_event("GET", path))
            self.assertEqual(body["statusCode"], 404, body)

    def test_numpy(self):
        name = self.made(projects.python("numbers"), MemorySize=512)
        body, answer = self.call(name, {"matrix": [[2, 0], [0, 4]]})
        self.assertNotIn("FunctionError", answer, body)
        self.assertEqual(body["inverse"], [[0.5, 0.0], [0.0, 0.25]])
        self.assertTrue(body["from"].startswith("/var/task/numpy/"), body)
        body, answer = self.call(name, {"matrix": [[1, 1], [1, 1]]})
        self.assertEqual((answer["FunctionError"], body["errorType"]), ("Unhandled", "LinAlgError"))

    @unittest.skipUnless(shutil.which("npm"), "NOT TESTED: there is no npm here")
    def test_node_modules(self):
        name = self.made(projects.node("node"), Runtime="nodejs20.x", Handler="index.handler")
        body, answer = self.call(name, {"words": ["one", "two", "three"], "name": "https://example.com"})
        self.assertNotIn("FunctionError", answer, body)
        self.assertEqual(body["groups"], {"3": ["one", "two"], "5": ["three"]})
        self.assertEqual((body["id"], body["valid"]), ("4fd35a71-71ef-5a55-a9d9-aa75c889a6d0", True))


class Sam(Made):
    @unittest.skipUnless(shutil.which("npm"), "NOT TESTED: there is no npm here")
    def test_what_it_builds(self):
        built = projects.sam("sam")
        name, deployed = self.made(projects.zipped([(built["Things"], "")]), Runtime=projects.OWN_PYTHON), self.name()
        typed = ["--name", deployed, "--runtime", "python3.13", "--handler", "app.handler"]
        projects.run([os.environ["HEARTH"], "deploy", str(built["Things"]), *typed], 60)
        for name in (name, deployed):
            body, answer = self.call(name, {"things": "[a cup, <tea>]"})
            self.assertNotIn("FunctionError", answer, body)
            self.assertEqual((body["page"], body["url"]), ("<li>a cup<li>&lt;tea&gt;", "https://example.org/?q=a+cup"))
            self.assertTrue(body["from"].startswith("/var/task/yaml/"), body)
        name = self.made(projects.zipped([(built["Words"], "")]), Runtime="nodejs20.x", Handler="index.handler")
        body, answer = self.call(name, {"words": ["one", "three"], "name": "https://example.com"})
        self.assertNotIn("FunctionError", answer, body)
        self.assertEqual((body["groups"], body["valid"]), ({"3": ["one"], "5": ["three"]}, True))

    def test_it_calls(self):
        name = self.function()
        said = projects.run([*projects.SAM, "remote", "invoke", ARN + name, "--event", '{"a": 1}', "--output", "json"], 60)
        said = json.loads(said)
        self.assertEqual((said["StatusCode"], json.loads(said["Payload"])), (200, {"a": 1}))
        self.assertIn("called\n", log(said))
