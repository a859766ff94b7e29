"""Function URLs: how they are made and what they say, who may call, what a function sees and how it answers; an ASGI app behind one."""

import base64
import http.client
import io
import json
import os
import pathlib
import re
import unittest
import urllib.parse
import zipfile

import botocore.auth
import urllib3
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from support import ACCOUNT, ARN, ENDPOINT, LAMBDA, REGION, ROLE, Case, aws, package
from test_signing import native

KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
HTTP = urllib3.PoolManager(timeout=60, retries=False)
SERVER = urllib.parse.urlsplit(ENDPOINT)
# Answers with what the body says, and anything else with the event.
MIRROR = """
import json
def handler(event, context):
    if event.get('body', '').startswith('answer:'):
        return json.loads(event['body'][len('answer:'):])
    if event.get('body') == 'fail':
        raise ValueError('secret')
    return {'statusCode': 200, 'body': json.dumps({'event': event, 'arn': context.invoked_function_arn, 'version': context.function_version, 'id': context.aws_request_id})}
"""
STREAM = {
    "index.mjs": """
export const handler = awslambda.streamifyResponse(async (event, out) => {
  const asked = event.queryStringParameters ?? {};
  if (asked.fail === 'early') throw new RangeError('secret');
  if (asked.head) out = awslambda.HttpResponseStream.from(out, {
    statusCode: 418, headers: {'x-own': 'yes', 'content-type': 'text/plain'}, cookies: ['a=1', 'b=2'],
  });
  const piece = 'x'.repeat(64 * 1024);
  for (let n = 0; n < (asked.pieces ?? 2); n++) out.write(asked.pieces ? piece : `part ${n}\\n`);
  out.end();
});
"""
}


def ask(method, url, body=None, headers=None, host=None):
    headers = dict(headers or {})
    if host:
        headers["Host"] = host
    return HTTP.request(method, url, body=body, headers=headers, redirect=False)


def signed(method, url, body=b"", key=KEY, secret=SECRET, service="lambda", headers=None):
    """A request as botocore signs it for a function URL."""
    request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
    botocore.auth.SigV4Auth(Credentials(key, secret), service, REGION).add_auth(request)
    return ask(method, url, body, dict(request.headers))


class Urls(Case):
    def url(self, name, auth="NONE", **settings):
        return LAMBDA.create_function_url_config(FunctionName=name, AuthType=auth, **settings)["FunctionUrl"]

    def mirror(self, auth="NONE", code=MIRROR, url=None, **settings):
        name = self.function(code, **settings)
        return name, self.url(name, auth, **(url or {}))

    def id(self, name, **which):
        """A URL's id, from the native face's list of paths."""
        which = which.get("Qualifier", "$LATEST")
        urls = native("GET", f"/functions/{name}")["function_urls"]
        (path,) = [url["url"] for url in urls if url["qualifier"] == which]
        return path.split("/")[2]

    def event(self, answer):
        self.assertEqual(answer.status, 200, answer.data)
        return json.loads(answer.data)["event"]


class Configurations(Urls):
    def test_the_life_of_one(self):
        name = self.function()
        made = LAMBDA.create_function_url_config(FunctionName=name, AuthType="NONE")
        meta = made.pop("ResponseMetadata")
        self.assertEqual(meta["HTTPStatusCode"], 201)
        self.assertEqual(set(made), {"FunctionUrl", "FunctionArn", "AuthType", "CreationTime"})
        self.assertEqual((made["FunctionArn"], made["AuthType"]), (ARN + name, "NONE"))
        self.assertRegex(made["CreationTime"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertRegex(made["FunctionUrl"], r"^http://.*[a-z0-9]{32}.*/$")
        got = LAMBDA.get_function_url_config(FunctionName=name)
        self.assertEqual((got["FunctionUrl"], got["InvokeMode"]), (made["FunctionUrl"], "BUFFERED"))
        self.assertEqual(got["LastModifiedTime"], got["CreationTime"])
        message = self.refused(
            "ResourceConflictException", 409, LAMBDA.create_function_url_config, FunctionName=name, AuthType="NONE"
        )
        self.assertEqual(
            message,
            f"Failed to create function url config for [functionArn = {ARN}{name}]. "
            "Error message:  FunctionUrlConfig exists for this Lambda function",
        )
        cors = {
            "AllowCredentials": True, "AllowHeaders": ["x-a"], "AllowMethods": ["GET", "*"], "AllowOrigins": ["https://a.example"],
            "ExposeHeaders": ["x-b"], "MaxAge": 86400,
        }
        put = LAMBDA.update_function_url_config(FunctionName=name, AuthType="AWS_IAM", Cors=cors)
        self.assertEqual((put["AuthType"], put["Cors"], put["FunctionUrl"]), ("AWS_IAM", cors, made["FunctionUrl"]))
        self.assertNotIn("InvokeMode", put)
        self.assertGreaterEqual(put["LastModifiedTime"], put["CreationTime"])
        put = LAMBDA.update_function_url_config(FunctionName=name, InvokeMode="RESPONSE_STREAM")
        self.assertEqual((put["AuthType"], put["InvokeMode"], put["Cors"]), ("AWS_IAM", "RESPONSE_STREAM", cors))
        self.assertEqual(LAMBDA.update_function_url_config(FunctionName=name)["InvokeMode"], "RESPONSE_STREAM")
        gone = LAMBDA.delete_function_url_config(FunctionName=name)
        self.assertEqual(gone["ResponseMetadata"]["HTTPStatusCode"], 204)
        message = self.refused("ResourceNotFoundException", 404, LAMBDA.get_function_url_config, FunctionName=name)
        self.assertEqual(message, "The resource you requested does not exist.")
        # The next is another.
        self.assertNotEqual(self.url(name), made["FunctionUrl"])

    def test_a_mode_that_was_given_is_given_back(self):
        name = self.function()
        made = LAMBDA.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode="BUFFERED")
        self.assertEqual(made["InvokeMode"], "BUFFERED")
        self.assertEqual(LAMBDA.update_function_url_config(FunctionName=name)["InvokeMode"], "BUFFERED")

    def test_one_for_each_alias_in_pages(self):
        name = self.function()
        self.assertEqual(LAMBDA.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"], [])
        LAMBDA.publish_version(FunctionName=name)
        for alias in ("blue", "green"):
            LAMBDA.create_alias(FunctionName=name, Name=alias, FunctionVersion="1")
        urls = {self.url(name), self.url(name, Qualifier="blue"), self.url(f"{name}:green")}
        self.assertEqual(len(urls), 3)
        seen, marker = [], {}
        while True:
            page = LAMBDA.list_function_url_configs(FunctionName=name, MaxItems=2, **marker)
            seen += [config["FunctionArn"] for config in page["FunctionUrlConfigs"]]
            self.assertTrue(all(config["InvokeMode"] == "BUFFERED" for config in page["FunctionUrlConfigs"]))
            if "NextMarker" not in page:
                break
            marker = {"Marker": page["NextMarker"]}
        self.assertEqual(sorted(seen), [ARN + name, f"{ARN}{name}:blue", f"{ARN}{name}:green"])
        LAMBDA.delete_function_url_config(FunctionName=name)
        blue = LAMBDA.get_function_url_config(FunctionName=name, Qualifier="blue")
        self.assertEqual((blue["AuthType"], ask("GET", blue["FunctionUrl"]).status), ("NONE", 200))
        LAMBDA.delete_alias(FunctionName=name, Name="blue")
        answer = ask("GET", blue["FunctionUrl"])
        self.assertEqual((answer.status, answer.headers["x-amzn-errortype"]), (403, "AccessDeniedException"))
        forbidden = "Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
        self.assertEqual(json.loads(answer.data), {"Message": forbidden})
        self.refused("ResourceNotFoundException", 404, LAMBDA.get_function_url_config, FunctionName=name, Qualifier="blue")

    def test_what_is_wrong_is_said(self):
        name = self.function()
        LAMBDA.publish_version(FunctionName=name)
        calls = {
            "create": (LAMBDA.create_function_url_config, {"AuthType": "NONE"}, "Function does not exist"),
            "get": (LAMBDA.get_function_url_config, {}, "The resource you requested does not exist."),
            "update": (LAMBDA.update_function_url_config, {"AuthType": "AWS_IAM"}, "Function does not exist"),
            "delete": (LAMBDA.delete_function_url_config, {}, "The resource you requested does not exist."),
        }
        for call, more, missing in calls.values():
            for qualifier in ("1", "2", "$LATEST"):
                message = self.refused("ValidationException", 400, call, FunctionName=name, Qualifier=qualifier, **more)
                self.assertEqual(
                    message,
                    f"1 validation error detected: Value '{qualifier}' at 'qualifier' failed to satisfy constraint: "
                    r"Member must satisfy regular expression pattern: ((?!^\d+$)^[0-9a-zA-Z-_]+$)",
                )
            for target in ({"FunctionName": "nobody"}, {"FunctionName": ARN + "nobody"}, {"FunctionName": name, "Qualifier": "v1"}):
                self.assertEqual(self.refused("ResourceNotFoundException", 404, call, **target, **more), missing)
            message = self.refused(
                "InvalidParameterValueException", 400, call, FunctionName=f"{name}:other", Qualifier="live", **more
            )
            self.assertEqual(message, "The derived qualifier from the function name does not match the specified qualifier.")
        message = self.refused("ResourceNotFoundException", 404, LAMBDA.list_function_url_configs, FunctionName="nobody")
        self.assertEqual(message, "Function does not exist")
        message = self.refused(
            "ValidationException", 400, LAMBDA.create_function_url_config, FunctionName=name, AuthType="NONE", InvokeMode="UNKNOWN"
        )
        self.assertEqual(
            message,
            "1 validation error detected: Value 'UNKNOWN' at 'invokeMode' failed to satisfy constraint: "
            "Member must satisfy enum value set: [RESPONSE_STREAM, BUFFERED]",
        )
        message = self.refused(
            "ValidationException", 400, LAMBDA.create_function_url_config,
            FunctionName=name, AuthType="NONE", Cors={"AllowMethods": ["OPTIONS"]},
        )
        self.assertIn("Value '[OPTIONS]' at 'cors.allowMethods'", message)
        self.refused(
            "ResourceNotFoundException", 404, LAMBDA.get_function_url_config,
            FunctionName=f"arn:aws:lambda:eu-west-9:000000000000:function:{name}",
        )

    def test_typed(self):
        name = self.function()
        made = aws("create-function-url-config", "--function-name", name, "--auth-type", "NONE", "--cors", "AllowOrigins=*,MaxAge=5")
        self.assertEqual(made["Cors"], {"AllowOrigins": ["*"], "MaxAge": 5})
        self.assertEqual(ask("GET", made["FunctionUrl"]).status, 200)
        self.assertEqual(len(aws("list-function-url-configs", "--function-name", name)["FunctionUrlConfigs"]), 1)
        aws("delete-function-url-config", "--function-name", name)
        self.assertEqual(ask("GET", made["FunctionUrl"]).status, 403)

    def test_the_other_face_shows_it(self):
        name, _ = self.mirror("AWS_IAM")
        (shown,) = native("GET", f"/functions/{name}")["function_urls"]
        self.assertEqual((shown["qualifier"], shown["auth_type"]), ("$LATEST", "AWS_IAM"))
        self.assertRegex(shown["url"], r"^/lambda-url/[a-z0-9]{32}/$")


class Events(Urls):
    def test_what_a_function_sees(self):
        name, url = self.mirror()
        target = url + "pa2%2Fth/1?q=query&multi=foo&multi=%2Fbar"
        headers = {"Content-Type": "application/json", "ExTrA-HeadErs": "With WeiRd CapS", "User-Agent": "test/echo", "Cookie": "a=1; b=2"}
        answer = ask("POST", target, b'{"foo": "bar"}', headers)
        body = json.loads(answer.data)
        event = self.event(answer)
        self.assertEqual(event["version"], "2.0")
        self.assertEqual((event["rawPath"], event["rawQueryString"]), ("/pa2%2Fth/1", "q=query&multi=foo&multi=%2Fbar"))
        self.assertEqual(event["queryStringParameters"], {"q": "query", "multi": "foo,/bar"})
        self.assertEqual(event["cookies"], ["a=1", "b=2"])
        self.assertEqual((event["body"], event["isBase64Encoded"]), ('{"foo": "bar"}', False))
        self.assertEqual(event["headers"]["extra-headers"], "With WeiRd CapS")
        forwarded = [event["headers"][f"x-forwarded-{what}"] for what in ("for", "proto", "port")]
        self.assertEqual(forwarded, ["127.0.0.1", "http", str(SERVER.port)])
        self.assertEqual(event["headers"]["cookie"], "a=1; b=2")
        self.assertRegex(event["headers"]["x-amzn-trace-id"], "^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0$")
        context = event["requestContext"]
        self.assertEqual((context["routeKey"], context["stage"], context["accountId"]), ("$default", "$default", "anonymous"))
        self.assertEqual((context["apiId"], context["domainPrefix"]), (self.id(name), self.id(name)))
        self.assertEqual(context["domainName"], f"{self.id(name)}.lambda-url.{REGION}.localhost")
        # On AWS only the other one is raw.
        self.assertEqual(context["http"]["path"], "/pa2/th/1")
        self.assertEqual((context["http"]["method"], context["http"]["userAgent"]), ("POST", "test/echo"))
        self.assertEqual(context["http"]["sourceIp"], "127.0.0.1")
        self.assertNotIn("authorizer", context)
        self.assertEqual(body["arn"], ARN + name)
        # One id everywhere.
        self.assertEqual((context["requestId"], body["id"]), (answer.headers["x-amzn-requestid"],) * 2)

    def test_by_name_and_by_path(self):
        name, _ = self.mirror()
        id = self.id(name)
        for host in (f"{id}.lambda-url.{REGION}.localhost:{SERVER.port}", f"{id.upper()}.Lambda-Url.{REGION}.on.aws"):
            # Whatever is Hearth's own elsewhere is the function's here.
            for path in ("/", "/functions/x/execute", "/healthz", "/2015-03-31/functions", f"/lambda-url/{id}/x", "/dashboard/"):
                event = self.event(ask("POST", ENDPOINT + path, host=host))
                self.assertEqual((event["rawPath"], event["headers"]["host"]), (path, host))
        for path, raw in (("", "/"), ("/", "/"), ("/a/b", "/a/b"), ("//a", "//a")):
            event = self.event(ask("GET", f"{ENDPOINT}/lambda-url/{id}{path}"))
            self.assertEqual(event["rawPath"], raw)
        self.assertEqual(ask("GET", ENDPOINT + "/healthz").data, b"ok\n")

    def test_bodies(self):
        _, url = self.mirror()
        for kind, body, encoded in (
            ("text/plain", b"text", False),
            ("application/xml; charset=utf-8", "<é/>".encode(), False),
            ("application/octet-stream", bytes(range(256)), True),
            ("multipart/form-data; boundary=x", b"--x--", True),
            ("application/x-www-form-urlencoded", b"a=1", True),
        ):
            event = self.event(ask("PUT", url, body, {"Content-Type": kind}))
            got = event["body"]
            self.assertEqual(event["isBase64Encoded"], encoded, kind)
            self.assertEqual(base64.b64decode(got) if encoded else got.encode(), body)
        event = self.event(ask("POST", url))
        self.assertNotIn("body", event)
        self.assertIs(event["isBase64Encoded"], False)

    def test_a_body_that_is_none(self):
        name, url = self.mirror()
        native = {"authorization": f"Bearer {os.environ['HEARTH_KEY']}"}
        for place, headers in ((url, {}), (f"{os.environ['HEARTH_URL']}/functions/{name}/execute", native)):
            place = urllib.parse.urlsplit(place)
            connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
            self.addCleanup(connection.close)
            connection.putrequest("POST", place.path)
            for header in {**headers, "transfer-encoding": "chunked"}.items():
                connection.putheader(*header)
            connection.endheaders(b"2\r\n{}\r\nz\r\n")
            answer = connection.getresponse()
            # Not a 408, which clients repeat.
            self.assertEqual(answer.status, 400, answer.read())

    def test_one_that_there_is_not(self):
        unknown = "0123456789abcdefghijklmnopqrstuv"
        for answer in (
            ask("GET", ENDPOINT + "/", host=f"{unknown}.lambda-url.{REGION}.localhost"),
            ask("GET", f"{ENDPOINT}/lambda-url/{unknown}/x"),
        ):
            self.assertEqual((answer.status, answer.data), (403, b'{"Message":null}'))
            self.assertEqual(answer.headers["x-amzn-errortype"], "AccessDeniedException")
            self.assertEqual(answer.headers["content-type"], "application/json")


class Answers(Urls):
    def test_values(self):
        _, url = self.mirror()
        for given, body in (
            ({"hello": "world"}, b'{"hello":"world"}'),
            (["hello", 3, True], b'["hello",3,true]'),
            ("hello", b"hello"),
            (3, b"3"),
            (3.1, b"3.1"),
            (True, b"true"),
            (None, b"null"),
            ({"statusCode": 200, "body": "body123"}, b"body123"),
            ({"statusCode": 200, "body": '{"hello": "world"}'}, b'{"hello": "world"}'),
        ):
            answer = ask("POST", url, "answer:" + json.dumps(given), {"Content-Type": "text/plain"})
            self.assertEqual((answer.status, answer.data), (200, body))
            self.assertEqual(answer.headers["content-type"], "application/json")
            self.assertEqual(answer.headers["content-length"], str(len(body)))

    def test_status_headers_cookies_and_bytes(self):
        _, url = self.mirror()
        given = {
            "statusCode": "418", "headers": {"Content-Type": "image/png", "My-Header": "Custom Value"}, "cookies": ["a=1; Path=/", "b=2"],
            "body": base64.b64encode(bytes(range(256))).decode(), "isBase64Encoded": True,
        }
        answer = ask("POST", url, "answer:" + json.dumps(given), {"Content-Type": "text/plain"})
        self.assertEqual((answer.status, answer.data), (418, bytes(range(256))))
        self.assertEqual((answer.headers["content-type"], answer.headers["my-header"]), ("image/png", "Custom Value"))
        self.assertEqual(answer.headers.getlist("set-cookie"), ["a=1; Path=/", "b=2"])
        head = ask("HEAD", url)
        self.assertEqual((head.status, head.data), (200, b""))

    def test_failures_say_nothing(self):
        name, url = self.mirror()
        broken = {"statusCode": 200, "body": "!", "isBase64Encoded": True}
        for body in ("fail", "answer:" + json.dumps(broken), "answer:" + json.dumps({"statusCode": 99})):
            answer = ask("POST", url, body, {"Content-Type": "text/plain"})
            self.assertEqual((answer.status, answer.data), (502, b"Internal Server Error"))
            self.assertRegex(answer.headers["x-amzn-requestid"], r"^[0-9a-f-]{36}$")
        other = self.function("raise SystemExit(3)\n")
        self.assertEqual(ask("GET", self.url(other)).data, b"Internal Server Error")
        slow = self.function("import time\ndef handler(event, context):\n    time.sleep(60)\n", Timeout=1)
        self.assertEqual(ask("GET", self.url(slow)).status, 502)
        LAMBDA.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        answer = ask("GET", url)
        self.assertEqual(answer.status, 429)
        self.assertEqual(answer.headers["x-amzn-errortype"], "TooManyRequestsException")
        self.assertEqual(json.loads(answer.data)["message"], "Rate Exceeded.")

    def test_what_is_too_large(self):
        _, url = self.mirror(MemorySize=512, Timeout=30)
        for size in (6 * 1024 * 1024 - 100, 6 * 1024 * 1024 + 1):
            answer = ask("POST", url, b"x" * size, {"Content-Type": "text/plain"})
            self.assertEqual(answer.status, 413)
            self.assertEqual(
                json.loads(answer.data)["message"], "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
            )


class Aliases(Urls):
    def test_a_url_follows_its_alias(self):
        name = self.function("def handler(event, context):\n    return ['one', context.function_version, context.invoked_function_arn]\n")
        LAMBDA.publish_version(FunctionName=name)
        LAMBDA.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        url = self.url(name, Qualifier="live")
        self.assertEqual(json.loads(ask("GET", url).data), ["one", "1", f"{ARN}{name}:live"])
        code = "def handler(event, context):\n    return ['two', context.function_version]\n"
        LAMBDA.update_function_code(FunctionName=name, ZipFile=package(code))
        self.assertEqual(json.loads(ask("GET", url).data)[0], "one")
        LAMBDA.publish_version(FunctionName=name)
        LAMBDA.update_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
        seen = {json.loads(ask("GET", url).data)[0] for _ in range(64)}
        self.assertEqual(seen, {"one", "two"})
        LAMBDA.delete_alias(FunctionName=name, Name="live")
        answer = ask("GET", url)
        self.assertEqual((answer.status, answer.headers["x-amzn-errortype"]), (403, "AccessDeniedException"))

    def test_it_goes_with_its_function(self):
        name, url = self.mirror()
        self.assertEqual(ask("GET", url).status, 200)
        LAMBDA.delete_function(FunctionName=name)
        self.assertEqual(ask("GET", url).status, 403)


class Signed(Urls):
    def forbidden(self, answer):
        self.assertEqual((answer.status, answer.headers["x-amzn-errortype"]), (403, "AccessDeniedException"))
        self.assertTrue(json.loads(answer.data)["Message"].startswith("Forbidden"), answer.data)

    def test_only_who_signs_is_let_in(self):
        _, url = self.mirror("AWS_IAM")
        self.forbidden(ask("GET", url))
        self.forbidden(ask("GET", url, headers={"Authorization": f"Bearer {os.environ['HEARTH_KEY']}"}))
        for method, path, body in (("GET", "a/b%2Fc?x=1&y=%20z", b""), ("POST", "", b'{"a": "\xc3\xa9"}'), ("DELETE", "a//b", b"")):
            event = self.event(signed(method, url + path, body))
            iam = event["requestContext"]["authorizer"]["iam"]
            self.assertEqual((iam["accountId"], iam["userArn"].split("/")[0]), (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user"))
            self.assertEqual(event["requestContext"]["accountId"], ACCOUNT)
            self.assertNotIn("authorization", event["headers"])
        self.forbidden(signed("GET", url, secret=SECRET + "x"))
        self.forbidden(signed("GET", url, key="AKIANOBODY"))
        self.forbidden(signed("GET", url, service="execute-api"))
        request = AWSRequest(method="POST", url=url, data=b"one", headers={})
        botocore.auth.SigV4Auth(Credentials(KEY, SECRET), "lambda", REGION).add_auth(request)
        self.forbidden(ask("POST", url, b"other", dict(request.headers)))
        self.forbidden(ask("POST", url + "elsewhere", b"one", dict(request.headers)))
        self.assertEqual(ask("POST", url, b"one", dict(request.headers)).status, 200)

    def test_in_the_host(self):
        name, _ = self.mirror("AWS_IAM")
        host = f"{self.id(name)}.lambda-url.{REGION}.localhost:{SERVER.port}"
        request = AWSRequest(method="GET", url=f"http://{host}/x", data=b"", headers={})
        botocore.auth.SigV4Auth(Credentials(KEY, SECRET), "lambda", REGION).add_auth(request)
        event = self.event(ask("GET", ENDPOINT + "/x", headers=dict(request.headers), host=host))
        self.assertEqual(event["rawPath"], "/x")
        self.forbidden(ask("GET", ENDPOINT + "/x", host=host))

    def test_a_signature_in_the_query(self):
        _, url = self.mirror("AWS_IAM")
        request = AWSRequest(method="GET", url=url + "x?a=1", headers={})
        botocore.auth.SigV4QueryAuth(Credentials(KEY, SECRET), "lambda", REGION, expires=60).add_auth(request)
        self.assertEqual(self.event(ask("GET", request.url))["queryStringParameters"]["a"], "1")
        self.forbidden(ask("GET", request.url.replace("a=1", "a=2")))

    def test_a_key_needs_to_be_for_the_function(self):
        name, url = self.mirror("AWS_IAM")
        for wish, good in (
            ({"scopes": ["invoke"], "functions": [name]}, True),
            ({"scopes": ["invoke"], "functions": ["other-*"]}, False),
            ({"scopes": ["deploy"], "functions": [name]}, False),
        ):
            made = native("POST", "/keys/", {"name": "t", **wish})
            self.addCleanup(native, "DELETE", f"/keys/{made['id']}")
            answer = signed("GET", url, key=made["id"], secret=made["key"])
            self.assertEqual(answer.status, 200) if good else self.forbidden(answer)

    def test_it_is_opened_and_closed(self):
        name, url = self.mirror()
        self.assertEqual(ask("GET", url).status, 200)
        LAMBDA.update_function_url_config(FunctionName=name, AuthType="AWS_IAM")
        self.forbidden(ask("GET", url))
        LAMBDA.update_function_url_config(FunctionName=name, AuthType="NONE")
        self.assertEqual(ask("GET", url).status, 200)


class Browsers(Urls):
    CORS = {
        "AllowCredentials": True, "AllowHeaders": ["x-a", "content-type"], "AllowMethods": ["GET", "POST"],
        "AllowOrigins": ["https://a.example"], "ExposeHeaders": ["x-b"], "MaxAge": 300,
    }

    def test_their_question_never_reaches_the_function(self):
        name, url = self.mirror("AWS_IAM", "raise SystemExit(3)\n", {"Cors": self.CORS})
        question = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a"}
        answer = ask("OPTIONS", url + "x", headers=question)
        self.assertEqual((answer.status, answer.data), (200, b""))
        told = {name: value for name, value in answer.headers.items() if name.lower().startswith("access-control-")}
        self.assertEqual(
            {name.lower(): value for name, value in told.items()},
            {
                "access-control-allow-origin": "https://a.example",
                "access-control-allow-credentials": "true",
                "access-control-allow-methods": "GET,POST",
                "access-control-allow-headers": "x-a,content-type",
                "access-control-max-age": "300",
            },
        )
        answer = ask("OPTIONS", url, headers={**question, "Origin": "https://b.example"})
        self.assertEqual(answer.status, 200)
        self.assertNotIn("access-control-allow-origin", answer.headers)
        LAMBDA.update_function_url_config(FunctionName=name, Cors={})
        self.assertEqual(ask("OPTIONS", url, headers=question).status, 403)

    def test_answers_carry_what_the_configuration_says(self):
        name, url = self.mirror(url={"Cors": self.CORS})
        given = {"statusCode": 200, "headers": {"access-control-allow-origin": "*", "x-b": "1"}, "body": ""}
        body, kind = "answer:" + json.dumps(given), {"Content-Type": "text/plain"}
        answer = ask("POST", url, body, {**kind, "Origin": "https://a.example"})
        self.assertEqual(answer.headers.getlist("access-control-allow-origin"), ["https://a.example"])
        self.assertEqual(answer.headers["access-control-expose-headers"], "x-b")
        self.assertEqual(answer.headers["access-control-allow-credentials"], "true")
        answer = ask("POST", url, body, {**kind, "Origin": "https://b.example"})
        self.assertNotIn("access-control-allow-origin", answer.headers)
        self.assertEqual(ask("POST", url, body, kind).headers["access-control-allow-origin"], "*")
        answer = ask("POST", url, "fail", {**kind, "Origin": "https://a.example"})
        self.assertEqual((answer.status, answer.headers["access-control-allow-origin"]), (502, "https://a.example"))
        LAMBDA.update_function_url_config(FunctionName=name, Cors={"AllowOrigins": ["*"]})
        self.assertEqual(ask("GET", url, headers={"Origin": "null"}).headers["access-control-allow-origin"], "*")


class Streams(Urls):
    def streaming(self, mode):
        name = self.function(STREAM, Runtime="nodejs20.x", Handler="index.handler", MemorySize=512, Timeout=30)
        return self.url(name, InvokeMode=mode)

    def test_as_they_come(self):
        url = self.streaming("RESPONSE_STREAM")
        answer = ask("GET", url)
        self.assertEqual((answer.status, answer.data), (200, b"part 0\npart 1\n"))
        self.assertEqual(answer.headers["transfer-encoding"], "chunked")
        # More than any answer that has to be whole.
        answer = ask("GET", url + "?pieces=128")
        self.assertEqual((answer.status, len(answer.data)), (200, 8 * 1024 * 1024))
        self.assertEqual(ask("GET", url + "?fail=early").data, b"Internal Server Error")

    def test_with_a_head(self):
        for mode in ("RESPONSE_STREAM", "BUFFERED"):
            answer = ask("GET", self.streaming(mode) + "?head=1")
            self.assertEqual((answer.status, answer.data), (418, b"part 0\npart 1\n"), mode)
            self.assertEqual((answer.headers["x-own"], answer.headers["content-type"]), ("yes", "text/plain"))
            self.assertEqual(answer.headers.getlist("set-cookie"), ["a=1", "b=2"])
            self.assertEqual("content-length" in answer.headers, mode == "BUFFERED")

    def test_gathered(self):
        url = self.streaming("BUFFERED")
        answer = ask("GET", url)
        self.assertEqual((answer.status, answer.data), (200, b"part 0\npart 1\n"))
        self.assertEqual(answer.headers["content-length"], "14")
        self.assertEqual(ask("GET", url + "?pieces=128").status, 502)

    def test_what_does_not_stream_is_sent_as_it_is(self):
        _, url = self.mirror(url={"InvokeMode": "RESPONSE_STREAM"})
        answer = ask("POST", url, "text", {"Content-Type": "text/plain"})
        self.assertEqual(answer.status, 200)
        inner = json.loads(answer.data)
        self.assertEqual(json.loads(inner["body"])["event"]["body"], "text")


APP = """
from typing import Annotated

from fastapi import Cookie, FastAPI, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.responses import RedirectResponse
from mangum import Mangum
from pydantic import BaseModel

app = FastAPI()

class Item(BaseModel):
    name: str
    price: float

@app.get("/items/{item}")
def read(item: str, tag: list[str] | None = None, limit: int = 10):
    return {"item": item, "limit": limit}

@app.post("/items", status_code=201)
def create(item: Item, response: Response):
    response.set_cookie("last", item.name)
    response.headers["x-price"] = str(item.price)
    return item

@app.get("/last")
def last(last: Annotated[str | None, Cookie()] = None):
    if last is None:
        raise HTTPException(404, "nothing yet")
    return {"last": last}

@app.post("/upload")
async def upload(file: UploadFile = File(), note: str = Form()):
    return {"name": file.filename, "size": len(await file.read()), "note": note}

@app.get("/bytes")
def some():
    return Response(bytes(range(256)), media_type="application/octet-stream")

@app.get("/event")
def event(request: Request):
    return {"stage": request.scope["aws.event"]["requestContext"]["stage"], "client": request.client.host}

@app.get("/away")
def away():
    return RedirectResponse("/items/x")

handler = Mangum(app)
"""


def packed(directory, **files):
    """A zip of a directory and some texts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(directory.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(directory))
        for name, text in files.items():
            archive.writestr(f"{name}.py", text)
    return out.getvalue()


@unittest.skipUnless(os.environ.get("FASTAPI_DIR"), "run.sh installs what it needs")
class Apps(Urls):
    """FastAPI and Mangum as they come from PyPI, with a compiled dependency."""

    @classmethod
    def setUpClass(cls):
        cls.name = "t-urls-fastapi"
        archive = packed(pathlib.Path(os.environ["FASTAPI_DIR"]), app=APP)
        LAMBDA.create_function(
            FunctionName=cls.name, Runtime="python3.13", Handler="app.handler", Role=ROLE, MemorySize=512, Timeout=30,
            Code={"ZipFile": archive},
        )
        cls.addClassCleanup(LAMBDA.delete_function, FunctionName=cls.name)
        made = LAMBDA.create_function_url_config(FunctionName=cls.name, AuthType="NONE")
        cls.app = made["FunctionUrl"].rstrip("/")

    def test_paths_queries_and_checks(self):
        answer = ask("GET", self.app + "/items/a%20b?limit=3")
        self.assertEqual((answer.status, answer.json()), (200, {"item": "a b", "limit": 3}))
        answer = ask("GET", self.app + "/items/x?limit=many")
        self.assertEqual((answer.status, answer.json()["detail"][0]["type"]), (422, "int_parsing"))
        self.assertEqual(ask("GET", self.app + "/nowhere").status, 404)
        self.assertEqual(ask("DELETE", self.app + "/items").status, 405)
        self.assertEqual(ask("GET", self.app + "/event").json(), {"stage": "$default", "client": "127.0.0.1"})

    def test_bodies_headers_and_cookies(self):
        answer = ask("POST", self.app + "/items", json.dumps({"name": "tea", "price": 2.5}), {"Content-Type": "application/json"})
        self.assertEqual((answer.status, answer.json()), (201, {"name": "tea", "price": 2.5}))
        self.assertEqual(answer.headers["x-price"], "2.5")
        cookie = answer.headers["set-cookie"].split(";")[0]
        self.assertEqual(ask("GET", self.app + "/last", headers={"Cookie": cookie}).json(), {"last": "tea"})
        self.assertEqual(ask("GET", self.app + "/last").status, 404)
        self.assertEqual(ask("GET", self.app + "/bytes").data, bytes(range(256)))
        answer = ask("GET", self.app + "/away")
        self.assertEqual((answer.status, answer.headers["location"]), (307, "/items/x"))

    def test_a_form_with_a_file(self):
        fields = {"file": ("a.bin", bytes(range(256)), "application/octet-stream"), "note": "é"}
        answer = HTTP.request("POST", self.app + "/upload", fields=fields)
        self.assertEqual((answer.status, answer.json()), (200, {"name": "a.bin", "size": 256, "note": "é"}))

    def test_its_documents(self):
        document = ask("GET", self.app + "/openapi.json").json()
        self.assertIn("/items/{item}", document["paths"])
        page = ask("GET", self.app + "/docs")
        self.assertIn("text/html", page.headers["content-type"])
        self.assertTrue(re.search(rb"swagger", page.data))
