"""Who may come in: signatures that are right, that are not, and keys that may not do everything."""

import base64
import datetime
import hashlib
import hmac
import json
import os
import urllib.error
import urllib.request
import zlib
from unittest import mock

import boto3
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from support import ENDPOINT, LAMBDA, REGION, Case, client, native

KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
PATH = "/2015-03-31/functions"


def send(method, url, headers, body=None):
    """Status, error type and body of what is sent as it is."""
    request = urllib.request.Request(url, method=method, headers=headers, data=body)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, None, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["x-amzn-errortype"], json.loads(error.read())


class Signing(Case):
    def refused_client(self, kind, **settings):
        other = client(**settings)
        return self.refused(kind, 403, other.list_functions)

    def test_a_key_nobody_knows(self):
        message = self.refused_client("UnrecognizedClientException", aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key=SECRET)
        self.assertEqual(message, "The security token included in the request is invalid.")

    def test_another_secret(self):
        message = self.refused_client("InvalidSignatureException", aws_access_key_id=KEY, aws_secret_access_key="x" + SECRET)
        self.assertTrue(message.startswith("The request signature we calculated does not match the signature you provided."))

    def test_another_region(self):
        message = self.refused_client("InvalidSignatureException", region_name="eu-central-1")
        self.assertEqual(message, "Credential should be scoped to a valid region, not 'eu-central-1'.")

    def test_a_clock_that_is_off(self):
        for minutes, wanted in ((-10, "Signature expired: "), (10, "Signature not yet current: ")):
            moved = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
            with mock.patch.object(botocore.auth, "get_current_datetime", lambda **_: moved.replace(tzinfo=None)):
                message = self.refused("InvalidSignatureException", 403, LAMBDA.list_functions)
            self.assertTrue(message.startswith(wanted), message)

    def signed(self, method, url, body=b"", headers=None):
        request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
        botocore.auth.SigV4Auth(Credentials(KEY, SECRET), "lambda", REGION).add_auth(request)
        return dict(request.headers.items())

    def test_a_body_that_was_altered(self):
        name = self.function()
        url = f"{ENDPOINT}{PATH}/{name}/invocations"
        headers = self.signed("POST", url, b'{"a": 1}')
        self.assertEqual(send("POST", url, headers, b'{"a": 1}')[0], 200)
        status, kind, body = send("POST", url, headers, b'{"a": 2}')
        self.assertEqual((status, kind), (403, "InvalidSignatureException"), body)

    def test_a_header_that_was_added(self):
        name = self.function()
        url = f"{ENDPOINT}{PATH}/{name}/invocations"
        headers = self.signed("POST", url, b"{}")
        status, kind, body = send("POST", url, {**headers, "X-Amz-Invocation-Type": "Event"}, b"{}")
        self.assertEqual((status, kind), (403, "InvalidSignatureException"))
        self.assertIn("SignedHeader", body["message"])

    def test_a_path_that_was_altered(self):
        headers = self.signed("GET", f"{ENDPOINT}{PATH}")
        status, kind, _ = send("GET", f"{ENDPOINT}{PATH}/f", headers)
        self.assertEqual((status, kind), (403, "InvalidSignatureException"))

    def test_nothing_at_all_or_half(self):
        status, kind, body = send("GET", f"{ENDPOINT}{PATH}", {})
        self.assertEqual((status, kind, body["message"]), (403, "MissingAuthenticationTokenException", "Missing Authentication Token"))
        half = {"Authorization": "AWS4-HMAC-SHA256 Credential=a/b/c/d/e", "X-Amz-Date": "20260101T000000Z"}
        status, kind, _ = send("GET", f"{ENDPOINT}{PATH}", half)
        self.assertEqual((status, kind), (403, "IncompleteSignatureException"))

    def test_a_url_that_is_signed(self):
        request = AWSRequest(method="GET", url=f"{ENDPOINT}{PATH}?MaxItems=1")
        botocore.auth.SigV4QueryAuth(Credentials(KEY, SECRET), "lambda", REGION, expires=60).add_auth(request)
        status, _, body = send("GET", request.url, {})
        self.assertEqual(status, 200, body)
        status, kind, _ = send("GET", request.url.replace("MaxItems=1", "MaxItems=2"), {})
        self.assertEqual((status, kind), (403, "InvalidSignatureException"))

    def test_bodies_that_are_not_hashed_whole(self):
        name = self.function()
        url = f"{ENDPOINT}{PATH}/{name}/invocations"

        class Unsigned(botocore.auth.SigV4Auth):
            def payload(self, request):
                return request.headers["X-Amz-Content-Sha256"]

        def headers(hashed, **more):
            request = AWSRequest(method="POST", url=url, headers={"X-Amz-Content-Sha256": hashed, **more})
            Unsigned(Credentials(KEY, SECRET), "lambda", REGION).add_auth(request)
            return dict(request.headers.items())

        status, _, body = send("POST", url, headers("UNSIGNED-PAYLOAD"), b'{"n": 1}')
        self.assertEqual((status, json.loads(body)), (200, {"n": 1}))
        exact = hashlib.sha256(b'{"n": 2}').hexdigest()
        self.assertEqual(send("POST", url, headers(exact), b'{"n": 2}')[0], 200)
        self.assertEqual(send("POST", url, headers(exact), b'{"n": 3}')[:2], (403, "InvalidSignatureException"))

        event = json.dumps({"long": "x" * 100_000}).encode()
        more = {"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": str(len(event))}
        signed = headers("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", **more)
        chunks = self.chunked(signed, event)
        status, _, body = send("POST", url, signed, chunks)
        self.assertEqual((status, json.loads(body)), (200, json.loads(event)))
        at = chunks.index(b"xxxx")
        altered = chunks[:at] + b"y" + chunks[at + 1 :]
        self.assertEqual(send("POST", url, signed, altered)[:2], (403, "InvalidSignatureException"))

        more["X-Amz-Trailer"] = "x-amz-checksum-crc32"
        signed = headers("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", **more)
        checksum = zlib.crc32(event).to_bytes(4, "big")
        trailer = f"x-amz-checksum-crc32:{base64.b64encode(checksum).decode()}"
        chunks = self.chunked(signed, event, trailer)
        status, _, body = send("POST", url, signed, chunks)
        self.assertEqual((status, json.loads(body)), (200, json.loads(event)))
        for altered in (chunks.replace(b"crc32:", b"crc33:"), chunks.replace(b"xxxx", b"yxxx", 1)):
            self.assertEqual(send("POST", url, signed, altered)[:2], (403, "InvalidSignatureException"))

    def chunked(self, signed, body, trailer=None, size=64 * 1024):
        """The body as a streaming client sends it."""

        def mac(key, text):
            return hmac.new(key, text.encode(), hashlib.sha256).digest()

        stamp = signed["X-Amz-Date"]
        key = mac(mac(mac(mac(f"AWS4{SECRET}".encode(), stamp[:8]), REGION), "lambda"), "aws4_request")
        scope = f"{stamp[:8]}/{REGION}/lambda/aws4_request"
        before = signed["Authorization"].rpartition("Signature=")[2]
        out = b""
        for start in [*range(0, len(body), size), len(body)]:
            chunk = body[start : start + size]
            digests = (hashlib.sha256(b"").hexdigest(), hashlib.sha256(chunk).hexdigest())
            text = "\n".join(("AWS4-HMAC-SHA256-PAYLOAD", stamp, scope, before, *digests))
            before = mac(key, text).hex()
            out += f"{len(chunk):x};chunk-signature={before}\r\n".encode() + chunk + (b"\r\n" if chunk else b"")
        if trailer:
            text = "\n".join(("AWS4-HMAC-SHA256-TRAILER", stamp, scope, before, hashlib.sha256(f"{trailer}\n".encode()).hexdigest()))
            out += f"{trailer}\r\nx-amz-trailer-signature:{mac(key, text).hex()}\r\n".encode()
        return out + b"\r\n"


class Keys(Case):
    def restricted(self, scopes, functions):
        made = native("POST", "/keys/", {"name": "aws-test", "scopes": scopes, "functions": functions})
        self.addCleanup(native, "DELETE", f"/keys/{made['id']}")
        config = Config(retries={"max_attempts": 0})
        # The key's own id will do where AWS wants an access key id.
        return boto3.client("lambda", config=config, aws_access_key_id=made["id"], aws_secret_access_key=made["key"])

    def test_a_key_that_may_only_call(self):
        name = self.function()
        caller = self.restricted(["invoke"], [name])
        self.assertEqual(caller.invoke(FunctionName=name)["StatusCode"], 200)
        for call, parameters in (
            (caller.get_function, {"FunctionName": name}),
            (caller.update_function_configuration, {"FunctionName": name, "Timeout": 9}),
            (caller.delete_function, {"FunctionName": name}),
            (caller.list_functions, {}),
        ):
            self.refused("AccessDeniedException", 403, call, **parameters)
        other = self.function()
        message = self.refused("AccessDeniedException", 403, caller.invoke, FunctionName=other)
        self.assertIn("is not authorized to perform: lambda:InvokeFunction on resource: arn:aws:lambda:", message)

    def test_a_key_that_may_only_deploy(self):
        name, other = self.function(), self.function()
        deployer = self.restricted(["deploy"], [name])
        self.assertEqual([f["FunctionName"] for f in deployer.list_functions()["Functions"]], [name])
        self.assertEqual(deployer.get_function(FunctionName=name)["Configuration"]["FunctionName"], name)
        self.refused("AccessDeniedException", 403, deployer.get_function, FunctionName=other)
        self.refused("AccessDeniedException", 403, deployer.invoke, FunctionName=name)

    def test_a_key_that_was_revoked(self):
        made = native("POST", "/keys/", {"name": "aws-test", "scopes": ["invoke"]})
        gone = boto3.client(
            "lambda", config=Config(retries={"max_attempts": 0}), aws_access_key_id=made["id"], aws_secret_access_key=made["key"]
        )
        name = self.function()
        self.assertEqual(gone.invoke(FunctionName=name)["StatusCode"], 200)
        native("DELETE", f"/keys/{made['id']}")

        def refused():
            try:
                gone.invoke(FunctionName=name)
            except gone.exceptions.ClientError as error:
                return error.response["Error"]["Code"] == "UnrecognizedClientException"
            return False

        self.until(refused, seconds=10)
