"""What the tests have in common: clients, packages, and waiting. The server is the one `run.sh` started."""

import base64
import io
import json
import os
import shlex
import subprocess
import tempfile
import time
import unittest
import urllib.request
import uuid
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

REGION = os.environ["AWS_DEFAULT_REGION"]
ACCOUNT = os.environ["AWS_TEST_ACCOUNT"]
ROLE = f"arn:aws:iam::{ACCOUNT}:role/tests"
ENDPOINT = os.environ["AWS_ENDPOINT_URL_LAMBDA"]
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"

ECHO = "def handler(event, context):\n    print('called')\n    return event\n"


def client(**settings):
    """A client as anybody makes it, but that it tries once: what is refused shall be seen."""
    config = Config(retries={"max_attempts": 0}, read_timeout=60, connect_timeout=10)
    return boto3.client("lambda", config=config, **settings)


LAMBDA = client()


def package(files):
    """A zip of texts, always the same bytes for the same texts."""
    if isinstance(files, str):
        files = {"app.py": files}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            executable = name == "bootstrap" or name.startswith("extensions/")
            entry.external_attr = (0o755 if executable else 0o644) << 16
            archive.writestr(entry, text)
    return out.getvalue()


def aws(*arguments, check=True):
    """The aws CLI; gives back its output, read if it is JSON."""
    done = subprocess.run(
        ["aws", "lambda", *arguments, "--output", "json"], capture_output=True, text=True, timeout=120
    )
    if not check:
        return done
    if done.returncode != 0:
        raise AssertionError(f"aws lambda {' '.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else None


class Case(unittest.TestCase):
    maxDiff = None

    def name(self):
        """Of a function that is gone when the test is over."""
        name = f"t-{uuid.uuid4().hex[:12]}"
        self.addCleanup(self.remove, name)
        return name

    def remove(self, name):
        try:
            LAMBDA.delete_function(FunctionName=name)
        except LAMBDA.exceptions.ResourceNotFoundException:
            pass

    def function(self, code=ECHO, **settings):
        name = settings.pop("FunctionName", None) or self.name()
        given = {"Runtime": "python3.13", "Handler": "app.handler", "Role": ROLE, **settings}
        LAMBDA.create_function(FunctionName=name, Code={"ZipFile": package(code)}, **given)
        return name

    def refused(self, kind, status, call, **parameters):
        """The message of the error that a call must end in."""
        with self.assertRaises(ClientError) as caught:
            call(**parameters)
        error = caught.exception.response
        self.assertEqual(
            (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]), (kind, status), error
        )
        return error["Error"]["Message"]

    def call(self, name, event=None, **parameters):
        """What a function answered, and the whole response."""
        if event is not None:
            parameters["Payload"] = json.dumps(event)
        answer = LAMBDA.invoke(FunctionName=name, **parameters)
        body = answer["Payload"].read()
        return (json.loads(body) if body else None), answer

    def until(self, what, seconds=60):
        """Waits for a truth."""
        end = time.monotonic() + seconds
        while True:
            found = what()
            if found:
                return found
            self.assertLess(time.monotonic(), end, "it never came true")
            time.sleep(0.1)


class Hearth:
    """Another server, for as long as a test runs, with settings of its own. What it has is kept when it is stopped and started."""

    ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    AS_ROOT = [] if os.getuid() == 0 else ["sudo", "-n"]

    def __init__(self, case, **settings):
        self.case = case
        self.settings = {"aws.region": REGION, "aws.account": ACCOUNT, "pool.stem_min": "0", **settings}
        self.state = tempfile.mkdtemp()
        case.addCleanup(subprocess.run, [*self.AS_ROOT, "rm", "-rf", self.state], check=True)
        self.bare = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HEARTH"))}
        self.server = None
        case.addCleanup(self.stop)
        self.start()

    def start(self):
        given = [word for setting in self.settings.items() for word in ("--set", "=".join(setting))]
        log = tempfile.TemporaryFile()
        self.case.addCleanup(log.close)
        hearth = [*self.AS_ROOT, os.environ["HEARTH"]]
        serve = [*hearth, "serve", "--state-dir", self.state, "--listen", "127.0.0.1:0", "--runtimes", f"{self.ROOT}/runtimes", *given]
        self.server = subprocess.Popen(serve, env=self.bare, stderr=log)

        def told():
            if self.server.poll() is not None:
                log.seek(0)
                self.case.fail(log.read().decode())
            asked = [*hearth, "--state-dir", self.state, "env"]
            asked = subprocess.run(asked, env=self.bare, capture_output=True, text=True)
            return asked.stdout if asked.returncode == 0 else None

        words = shlex.split(self.case.until(told))
        self.told = dict(word.split("=", 1) for word in words if "=" in word)
        self.client = client(
            endpoint_url=self.told["AWS_ENDPOINT_URL_LAMBDA"], aws_access_key_id=self.told["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.told["AWS_SECRET_ACCESS_KEY"],
        )

    def stop(self):
        if self.server is not None:
            server, self.server = self.server, None
            subprocess.run([*self.AS_ROOT, "kill", str(server.pid)], check=True)
            self.case.assertEqual(server.wait(60), 0)

    def kill(self):
        with open(os.path.join(self.state, "instance.json")) as file:
            pid = json.load(file)["pid"]
        server, self.server = self.server, None
        subprocess.run([*self.AS_ROOT, "kill", "-KILL", str(pid)], check=True)
        server.wait(60)

    def get(self, path):
        request = urllib.request.Request(self.told["HEARTH_URL"] + path, headers={"Authorization": f"Bearer {self.told['HEARTH_KEY']}"})
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read().decode()

    def metrics(self):
        return self.get("/metrics")


def native(method, path, body=None):
    """The native face, which other things are seen on."""
    request = urllib.request.Request(
        os.environ["HEARTH_URL"] + path,
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"Bearer {os.environ['HEARTH_KEY']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read()
    return json.loads(text) if text else None


def log(answer):
    return base64.b64decode(answer["LogResult"]).decode()


def written(data, suffix):
    """A file with these bytes, for the CLI."""
    file = tempfile.NamedTemporaryFile(suffix=suffix, delete=False)
    with file:
        file.write(data)
    return file.name
