"""Code that lies in a bucket, as most people deploy it: of a store that speaks S3 and looks at every signature (`s3.py`)."""

import base64
import hashlib
import io
import json
import os
import signal
import tempfile
import urllib.request
import uuid
import zipfile

import boto3
from botocore.config import Config

from support import ECHO, LAMBDA, REGION, ROLE, Case, Hearth, aws, client, native, package

with open(os.environ["S3_STORE"]) as file:
    STORE = json.load(file)
S3 = boto3.client(
    "s3", endpoint_url=STORE["endpoint"], region_name=REGION, config=Config(s3={"addressing_style": "path"}),
    aws_access_key_id=STORE["owner"][0], aws_secret_access_key=STORE["owner"][1],
)
FUNCTION = {"Runtime": "python3.13", "Handler": "app.handler", "Role": ROLE}
GONE = "Error occurred while GetObject. S3 Error Code: {}. S3 Error Message: {}"


def says(word):
    return f"def handler(event, context):\n    return '{word}'\n"


class Bucket(Case):
    def put(self, code, key=None, bucket="code"):
        """An object of this code; what names it in a request."""
        key = key or f"{uuid.uuid4().hex}/app.zip"
        zipped = code if isinstance(code, bytes) else package(code)
        put = S3.put_object(Bucket=bucket, Key=key, Body=zipped)
        self.version = put.get("VersionId")
        return {"S3Bucket": bucket, "S3Key": key}

    def created(self, **code):
        name = self.name()
        return name, LAMBDA.create_function(FunctionName=name, Code=code, **FUNCTION)

    def test_a_function_is_made_of_it(self):
        zipped = package(ECHO)
        place = self.put(zipped)
        name, made = self.created(**place)
        sha = base64.b64encode(hashlib.sha256(zipped).digest()).decode()
        self.assertEqual((made["CodeSha256"], made["CodeSize"], made["State"]), (sha, len(zipped), "Pending"))
        self.assertEqual(self.call(name, {"a": 1})[0], {"a": 1})
        # It is a copy.
        S3.delete_object(Bucket=place["S3Bucket"], Key=place["S3Key"])
        code = LAMBDA.get_function(FunctionName=name)["Code"]
        self.assertEqual(code["RepositoryType"], "S3")
        with urllib.request.urlopen(code["Location"], timeout=30) as response:
            self.assertEqual(response.read(), zipped)

    def test_keys_are_taken_as_they_are(self):
        for key in ("a b/ü+%~(1)&=?#.zip", "/lead//double.zip", "%2e%2E/x.zip", "a/..b/...zip", "🍵 & <tea>.zip", "x" * 1000 + ".zip"):
            with self.subTest(key=key):
                place = self.put(says(key[0]), key)
                name, _ = self.created(**place)
                self.assertEqual(self.call(name)[0], key[0])

    def test_new_code_and_versions_of_the_object(self):
        place = self.put(says("one"))
        first = self.version
        name, made = self.created(**place)
        self.put(says("two"), place["S3Key"])
        dry = LAMBDA.update_function_code(FunctionName=name, DryRun=True, **place)
        self.assertNotEqual(dry["CodeSha256"], made["CodeSha256"])
        now = LAMBDA.get_function_configuration(FunctionName=name)
        self.assertEqual(now["CodeSha256"], made["CodeSha256"])
        said = self.refused(
            "PreconditionFailedException", 412, LAMBDA.update_function_code, FunctionName=name, RevisionId=str(uuid.uuid4()), **place
        )
        self.assertIn("The Revision Id provided does not match", said)
        updated = LAMBDA.update_function_code(FunctionName=name, RevisionId=now["RevisionId"], Publish=True, **place)
        self.assertEqual((updated["CodeSha256"], updated["Version"]), (dry["CodeSha256"], "1"))
        self.assertEqual(self.call(name)[0], "two")
        LAMBDA.update_function_code(FunctionName=name, S3ObjectVersion=first, **place)
        self.assertEqual(self.call(name)[0], "one")
        self.assertEqual(self.call(name, Qualifier="1")[0], "two")
        said = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.update_function_code, FunctionName=name, S3ObjectVersion="nonesuch", **place
        )
        self.assertEqual(said, GONE.format("NoSuchVersion", "The specified version does not exist."))
        self.assertEqual(self.call(name)[0], "one")

    def test_a_layer_is_made_of_it(self):
        name = self.name()
        place = self.put({"python/words.py": "GREETING = 'good day'\n"})
        layer = LAMBDA.publish_layer_version(LayerName=name, Content=place, CompatibleRuntimes=["python3.13"])
        self.addCleanup(LAMBDA.delete_layer_version, LayerName=name, VersionNumber=1)
        code = {"app.py": "import words\ndef handler(event, context):\n    return words.GREETING\n"}
        function = self.function(code, Layers=[layer["LayerVersionArn"]])
        self.assertEqual(self.call(function)[0], "good day")
        with urllib.request.urlopen(layer["Content"]["Location"], timeout=30) as response:
            self.assertEqual(len(response.read()), layer["Content"]["CodeSize"])
        said = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.publish_layer_version, LayerName=name, Content={"S3Bucket": "code", "S3Key": "no"}
        )
        self.assertEqual(said, GONE.format("NoSuchKey", "The specified key does not exist."))
        self.assertEqual([v["Version"] for v in LAMBDA.list_layer_versions(LayerName=name)["LayerVersions"]], [1])

    def test_what_is_not_there(self):
        name = self.function(says("one"))
        hidden = self.put(ECHO, bucket="private")
        for place, kind, status, said in (
            ({"S3Bucket": "code", "S3Key": "no"}, "InvalidParameterValueException", 400, GONE.format("NoSuchKey", "The specified key does not exist.")),
            (
                {"S3Bucket": "there-is-none", "S3Key": "no"}, "InvalidParameterValueException", 400,
                GONE.format("NoSuchBucket", "The specified bucket does not exist"),
            ),
            (
                hidden, "AccessDeniedException", 403,
                "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for "
                f"private/{hidden['S3Key']}. S3 Error Code: AccessDenied. S3 Error Message: Access Denied",
            ),
            (
                self.put(b"no zip"), "InvalidParameterValueException", 400,
                "Could not unzip uploaded file. Please check your file, then try to upload again.",
            ),
            ({"S3Bucket": "code"}, "InvalidParameterValueException", 400, "Please provide a source for function code."),
        ):
            with self.subTest(place=place):
                self.assertEqual(self.refused(kind, status, LAMBDA.update_function_code, FunctionName=name, **place), said)
                self.assertEqual(self.refused(kind, status, LAMBDA.create_function, FunctionName=name + "-2", Code=place, **FUNCTION), said)
        self.refused("ResourceNotFoundException", 404, LAMBDA.get_function, FunctionName=name + "-2")
        self.assertEqual(self.call(name)[0], "one")

    def test_larger_than_what_may_be_sent(self):
        noise = os.urandom(100 * 1024 * 1024)
        read = "import hashlib\ndef handler(event, context):\n    return hashlib.file_digest(open('noise', 'rb'), 'sha256').hexdigest()\n"
        zipped = package({"app.py": read, "noise": noise})
        name, made = self.created(**self.put(zipped))
        sha = base64.b64encode(hashlib.sha256(zipped).digest()).decode()
        self.assertEqual((made["CodeSize"], made["CodeSha256"]), (len(zipped), sha))
        self.assertEqual(self.call(name)[0], hashlib.sha256(noise).hexdigest())
        with urllib.request.urlopen(LAMBDA.get_function(FunctionName=name)["Code"]["Location"], timeout=30) as response:
            self.assertEqual(hashlib.file_digest(response, "sha256").digest(), hashlib.sha256(zipped).digest())
        # Sent, it is refused.
        sent = package({"app.py": says("x"), "noise": noise[: 50 * 1024 * 1024]})
        said = self.refused("RequestEntityTooLargeException", 413, LAMBDA.update_function_code, FunctionName=name, ZipFile=sent)
        self.assertEqual(said, "Zipped size must be smaller than 52428800 bytes")

    def test_too_large_unpacked(self):
        name = self.function(says("one"))
        noise = os.urandom(50 * 1024 * 1024)
        # A fifth of that when it is packed, and one byte too many together with the code.
        pieces = b"".join(noise[at : at + 4096] * 8 for at in range(0, 250 * 128 * 1024, 4096))[: -len(says("x").encode())]
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            file.writestr("app.py", says("x"))
            file.writestr("pieces", pieces)
        self.assertLess(len(archive.getvalue()), 50 * 1024 * 1024)
        place = self.put(archive.getvalue())
        said = self.refused("InvalidParameterValueException", 400, LAMBDA.update_function_code, FunctionName=name, **place)
        self.assertEqual(said, "Unzipped size must be smaller than 262144000 bytes")

    def test_what_is_said_of_the_place_is_checked(self):
        place, zipped = self.put(says("one")), package(says("zero"))
        name = self.function(says("zero"))
        before = LAMBDA.get_function_configuration(FunctionName=name)
        as_it_is = boto3.client("lambda", config=Config(retries={"max_attempts": 0}, parameter_validation=False))
        both, none = "Please do not provide other FunctionCode parameters when providing a ZipFile.", "Please provide a source for function code."
        images = ("Please don't provide ImageUri when creating a function with packageType Zip.", "Please don't provide ImageUri when updating a function with packageType Zip.")
        for code, kind, made, updated in (
            ({**place, "ZipFile": zipped}, "InvalidParameterValueException", both, both),
            ({"ZipFile": zipped, "S3ObjectVersion": "1"}, "InvalidParameterValueException", both, both),
            ({"ZipFile": zipped, "S3Key": "k"}, "InvalidParameterValueException", both, both),
            ({**place, "ImageUri": "image"}, "InvalidParameterValueException", *images),
            ({"ZipFile": zipped, "ImageUri": "image"}, "InvalidParameterValueException", both, images[1]),
            ({"S3ObjectVersion": "1"}, "InvalidParameterValueException", none, none),
            ({"S3Key": "k"}, "InvalidParameterValueException", none, none),
            ({}, "InvalidParameterValueException", none, none),
            ({**place, "S3Bucket": ""}, "ValidationException", *["greater than or equal to 3"] * 2),
            ({**place, "S3Key": ""}, "ValidationException", *["greater than or equal to 1"] * 2),
            ({**place, "S3ObjectVersion": ""}, "ValidationException", *["greater than or equal to 1"] * 2),
            ({**place, "S3Bucket": "b" * 64}, "ValidationException", *["less than or equal to 63"] * 2),
            ({**place, "S3Bucket": "a/b"}, "ValidationException", *["regular expression pattern"] * 2),
            ({**place, "S3Key": "k" * 1025}, "ValidationException", *["less than or equal to 1024"] * 2),
            ({**place, "S3ObjectStorageMode": "MOVE"}, "ValidationException", *["[COPY, REFERENCE]"] * 2),
        ):
            for dry in (False, True):
                with self.subTest(code=str(code)[:200], dry=dry):
                    self.assertIn(updated, self.refused(kind, 400, as_it_is.update_function_code, FunctionName=name, DryRun=dry, **code))
            with self.subTest(code=str(code)[:200]):
                self.assertIn(made, self.refused(kind, 400, as_it_is.create_function, FunctionName=name + "-2", Code=code, **FUNCTION))
        after = LAMBDA.get_function_configuration(FunctionName=name)
        self.assertEqual((after["RevisionId"], after["CodeSha256"]), (before["RevisionId"], before["CodeSha256"]))
        self.refused("ResourceNotFoundException", 404, LAMBDA.get_function, FunctionName=name + "-2")
        # The CLI's own way to say it, published at once.
        made = aws("update-function-code", "--function-name", name, "--s3-bucket", place["S3Bucket"], "--s3-key", place["S3Key"], "--publish")
        self.assertEqual((made["Version"], made["FunctionArn"].rsplit(":", 1)[1]), ("1", "1"))
        self.assertEqual(self.call(name, Qualifier="1")[0], "one")
        with tempfile.NamedTemporaryFile(suffix=".zip") as file:
            file.write(zipped)
            file.flush()
            refused = aws(
                "update-function-code", "--function-name", name, "--zip-file", f"fileb://{file.name}", "--s3-bucket", "code", "--s3-key", "k",
                "--dry-run", check=False,
            )
        self.assertIn(both, refused.stderr)

    def test_buckets_that_are_named(self):
        place = self.put(says("one"))
        key, secret = STORE["hearth"]
        store = {"aws.s3.endpoint": STORE["endpoint"], "aws.s3.access_key": key, "aws.s3.secret_key": secret}
        strict = Hearth(self, **store, **{"aws.s3.buckets": "other,team-*"}).client
        said = (
            f"Your access has been denied by S3, please make sure your request credentials have permission to GetObject for code/{place['S3Key']}. "
            "S3 Error Code: AccessDenied. S3 Error Message: aws.s3.buckets does not have the bucket code"
        )
        refused = self.refused("AccessDeniedException", 403, strict.create_function, FunctionName="f", Code=place, **FUNCTION)
        self.assertEqual(refused, said)
        content = {"LayerName": "l", "Content": place}
        self.assertEqual(self.refused("AccessDeniedException", 403, strict.publish_layer_version, **content), said)
        named = Hearth(self, **store, **{"aws.s3.buckets": "other,co?e*"}).client
        named.create_function(FunctionName="f", Code=place, **FUNCTION)

    def test_a_store_that_stands_still(self):
        place = self.put(says("one"))
        key, secret = STORE["hearth"]
        hearth = Hearth(self, **{
            "aws.s3.endpoint": STORE["endpoint"], "aws.s3.access_key": key, "aws.s3.secret_key": secret, "aws.s3.timeout": "2s",
        })
        impatient = hearth.client
        made = impatient.create_function(FunctionName="f", Code={"ZipFile": package(says("zero"))}, **FUNCTION)
        self.addCleanup(os.kill, STORE["pid"], signal.SIGCONT)
        os.kill(STORE["pid"], signal.SIGSTOP)
        said = self.refused("ServiceException", 500, impatient.update_function_code, FunctionName="f", **place)
        self.assertEqual(said, "The code could not be fetched: the store took over 2s.")
        self.assertEqual(impatient.get_function_configuration(FunctionName="f")["CodeSha256"], made["CodeSha256"])
        os.kill(STORE["pid"], signal.SIGCONT)
        updated = impatient.update_function_code(FunctionName="f", **place)
        sha = base64.b64encode(hashlib.sha256(package(says("one"))).digest()).decode()
        self.assertEqual(updated["CodeSha256"], sha)
        text = hearth.metrics()
        for outcome in ("ok", "failed"):
            self.assertRegex(text, f'hearth_code_fetches_total{{outcome="{outcome}"}} [1-9]')

    def test_a_key_for_one_function_and_one_for_none(self):
        place = self.put(ECHO)
        name = self.function(ECHO)
        nobody = client(aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="x")
        self.refused("UnrecognizedClientException", 403, nobody.update_function_code, FunctionName=name, **place)
        key = native("POST", "/keys/", {"name": "aws-test", "scopes": ["deploy"], "functions": [name]})
        self.addCleanup(native, "DELETE", f"/keys/{key['id']}")
        deployer = client(aws_access_key_id=key["id"], aws_secret_access_key=key["key"])
        other = self.function(says("other"))
        before = LAMBDA.get_function_configuration(FunctionName=other)["CodeSha256"]
        # Whether it is there or not, nothing is told of it.
        for there in (place, {"S3Bucket": "code", "S3Key": "no"}):
            for dry in (False, True):
                self.refused("AccessDeniedException", 403, deployer.update_function_code, FunctionName=other, DryRun=dry, **there)
            self.refused("AccessDeniedException", 403, deployer.create_function, FunctionName=self.name(), Code=there, **FUNCTION)
        self.assertEqual(LAMBDA.get_function_configuration(FunctionName=other)["CodeSha256"], before)
        # Its own it may have from there.
        deployer.update_function_code(FunctionName=name, **self.put(says("mine")))
        self.assertEqual(self.call(name)[0], "mine")

    def test_the_cli(self):
        name = self.name()
        place = self.put(says("one"))
        where = f"S3Bucket={place['S3Bucket']},S3Key={place['S3Key']}"
        aws(
            "create-function", "--function-name", name, "--runtime", "python3.13", "--handler", "app.handler", "--role", ROLE, "--code", where
        )
        aws("wait", "function-active-v2", "--function-name", name)
        self.assertEqual(self.call(name)[0], "one")
        place = self.put(says("two"))
        aws("update-function-code", "--function-name", name, "--s3-bucket", place["S3Bucket"], "--s3-key", place["S3Key"])
        aws("wait", "function-updated-v2", "--function-name", name)
        self.assertEqual(self.call(name)[0], "two")
