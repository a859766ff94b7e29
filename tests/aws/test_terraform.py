"""Terraform with the AWS provider, unmodified: what was applied is what is there, so a second plan has nothing to do; a change is one change;
what was destroyed is gone. Tells at once, and loudly, where there is no Terraform or no provider: neither can be installed from a registry."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import boto3

from support import ENDPOINT, LAMBDA, REGION, Case, package

TERRAFORM = shutil.which("terraform")
# Where mirrors of providers are kept; run.sh looks for one.
MIRROR = os.environ.get("TERRAFORM_MIRROR")
CODE = "import os\ndef handler(event, context):\n    return os.environ['GREETING'] + ' ' + event['who']\n"


@unittest.skipUnless(TERRAFORM and MIRROR, "NOT TESTED: there is no Terraform here, or no mirror with the AWS provider")
class Terraform(Case):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        shutil.copy(pathlib.Path(__file__).parent / "terraform" / "main.tf", self.folder)
        (self.folder / "rc").write_text(
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{MIRROR}"\n  }}\n}}\n'
        )
        (self.folder / "code.zip").write_bytes(package(CODE))
        self.values = {"endpoint": ENDPOINT, "name": self.name(), "package": str(self.folder / "code.zip")}
        for more in ("-plain", "-held"):
            self.addCleanup(self.remove, self.values["name"] + more)

    def terraform(self, command, *arguments, codes=(0,)):
        environment = {**os.environ, "TF_CLI_CONFIG_FILE": str(self.folder / "rc"), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
        environment.update({f"TF_VAR_{name}": value for name, value in self.values.items()})
        done = subprocess.run(
            [TERRAFORM, command, "-no-color", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300
        )
        self.assertIn(done.returncode, codes, f"terraform {command}: {done.stdout}\n{done.stderr}")
        return done

    def outputs(self):
        return {name: output["value"] for name, output in json.loads(self.terraform("output", "-json").stdout).items()}

    def test_what_was_applied_is_what_is_there(self):
        self.terraform("init", "-input=false")
        self.terraform("apply", "-input=false", "-auto-approve")
        self.assertEqual(self.outputs(), {"answer": "hello Ada", "version": "1"})
        self.same()
        # One setting: one function changes, with its new version and what points at it.
        self.values["greeting"] = "good day"
        applied = self.terraform("apply", "-input=false", "-auto-approve").stdout
        self.assertIn("GREETING", applied)
        self.assertIn("0 added, 2 changed, 0 destroyed", applied)
        self.same()
        name = self.values["name"]
        self.assertEqual(self.call(name, {"who": "Ada"}, Qualifier="live")[0], "good day Ada")
        self.assertEqual(LAMBDA.get_alias(FunctionName=name, Name="live")["FunctionVersion"], "2")
        # What somebody else changed is seen, and put back.
        LAMBDA.update_function_configuration(FunctionName=name, Timeout=77)
        plan = self.terraform("plan", "-input=false", "-detailed-exitcode", codes=(2,)).stdout
        self.assertRegex(plan, r"timeout +(= )?77 -> 12")
        self.terraform("destroy", "-auto-approve")
        for gone in (name, f"{name}-plain", f"{name}-held"):
            self.refused("ResourceNotFoundException", 404, LAMBDA.get_function, FunctionName=gone)

    def test_code_by_way_of_a_bucket(self):
        with open(os.environ["S3_STORE"]) as file:
            store = json.load(file)
        shutil.copy(pathlib.Path(__file__).parent / "terraform" / "bucket" / "main.tf", self.folder)
        key, secret = store["owner"]
        self.values |= {"store": store["endpoint"], "store_key": key, "store_secret": secret}
        self.terraform("init", "-input=false")
        self.terraform("apply", "-input=false", "-auto-approve")
        name = self.values["name"]
        self.assertEqual(self.call(name, {"who": "Ada"})[0], "hello Ada")
        self.same()
        # Another object is another version of it, and new code of the function that there is.
        (self.folder / "code.zip").write_bytes(package(CODE.replace("' '", "', '")))
        applied = self.terraform("apply", "-input=false", "-auto-approve").stdout
        self.assertIn("0 added, 2 changed, 0 destroyed", applied)
        self.assertEqual(self.call(name, {"who": "Ada"})[0], "hello, Ada")
        self.same()
        self.terraform("destroy", "-auto-approve")
        self.refused("ResourceNotFoundException", 404, LAMBDA.get_function, FunctionName=name)

    def test_event_source_mappings(self):
        with open(os.environ["S3_STORE"]) as file:
            store = json.load(file)
        key, secret = store["owner"]
        sqs = boto3.client(
            "sqs", endpoint_url=store["endpoint"], region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret
        )
        url = sqs.create_queue(QueueName=self.values["name"], Attributes={"VisibilityTimeout": "300"})["QueueUrl"]
        self.addCleanup(sqs.delete_queue, QueueUrl=url)
        names = ["QueueArn", "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = lambda: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        shutil.copy(pathlib.Path(__file__).parent / "terraform" / "queue" / "main.tf", self.folder)
        (self.folder / "code.zip").write_bytes(package("def handler(event, context):\n    return {'batchItemFailures': []}\n"))
        self.values["queue"] = attributes()["QueueArn"]
        self.terraform("init", "-input=false")
        self.terraform("apply", "-input=false", "-auto-approve")
        mapping = self.outputs()["mapping"]
        self.addCleanup(self.unmap, mapping)
        self.same()
        there = LAMBDA.get_event_source_mapping(UUID=mapping)
        self.assertEqual((there["State"], there["BatchSize"], there["ScalingConfig"]), ("Enabled", 20, {"MaximumConcurrency": 2}))
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"kind": "order"}))
        self.until(lambda: {count for name, count in attributes().items() if name != "QueueArn"} == {"0"})
        # One setting is one change, and what somebody else changed is seen and put back.
        self.values["most"] = "5"
        applied = self.terraform("apply", "-input=false", "-auto-approve").stdout
        self.assertIn("0 added, 1 changed, 0 destroyed", applied)
        self.same()
        LAMBDA.update_event_source_mapping(UUID=mapping, Enabled=False)
        plan = self.terraform("plan", "-input=false", "-detailed-exitcode", codes=(2,)).stdout
        self.assertRegex(plan, r"enabled +(= )?false -> true")
        self.terraform("apply", "-input=false", "-auto-approve")
        self.assertEqual(LAMBDA.get_event_source_mapping(UUID=mapping)["State"], "Enabled")
        self.terraform("destroy", "-auto-approve")
        self.refused("ResourceNotFoundException", 404, LAMBDA.get_event_source_mapping, UUID=mapping)

    def unmap(self, mapping):
        try:
            LAMBDA.delete_event_source_mapping(UUID=mapping)
        except LAMBDA.exceptions.ResourceNotFoundException:
            pass

    def same(self):
        plan = self.terraform("plan", "-input=false", "-detailed-exitcode", codes=(0, 2))
        self.assertEqual(plan.returncode, 0, plan.stdout)
