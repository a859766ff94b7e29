"""Odd values for every field of every operation, from boto3 without its own checks: each is taken or refused by name, and none is an error of
the server's."""

import gc
import warnings

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

from support import ARN, ECHO, LAMBDA, ROLE, Case, package

UNCHECKED = boto3.client("lambda", config=Config(parameter_validation=False, retries={"max_attempts": 0}, read_timeout=60))
# What the client itself makes nothing of.
UNSENDABLE = (TypeError, AttributeError, ValueError, KeyError, HTTPClientError, botocore.exceptions.ParamValidationError)

TEXTS = ["", " ", "a b", "../x", "\x00", "é🐎", "x" * 5000, "$LATEST", "arn:aws:lambda", "%2F", "a/b", ":", "'\"", "\n", 7, -1, 1.5, True, [], {}, ["a"]]
NUMBERS = [0, -1, 2**31, 2**63, 10**30, 1.5, 1e308, "1", "x", "", True, [], {}]
NESTED = 3


def odd(shape, depth=0):
    """Values that are not of this shape, or just about."""
    match shape.type_name:
        case "string":
            return [*TEXTS, *(["Z" + shape.enum[0]] if shape.enum else [])]
        case "integer" | "long" | "double" | "float":
            return NUMBERS
        case "boolean":
            return ["true", 0, [], "x"]
        case "blob":
            return [b"", b"x", b"PK\x03\x04" + bytes(40)]
        case "list":
            inner = [[value] for value in odd(shape.member, depth + 1)] if depth < NESTED else []
            return ["x", 1, {}, [None], [[]], ["a"] * 2000, *inner]
        case "map":
            inner = [{"1": value} for value in odd(shape.value, depth + 1)] if depth < NESTED else []
            return ["x", 1, [], {"": ""}, {"a": None}, {"a" * 5000: "b"}, {str(n): "x" for n in range(2000)}, *inner]
        case "structure":
            members = shape.members.items() if depth < NESTED else ()
            return ["x", 1, [], {"Unknown": 1}, *({name: value} for name, member in members for value in odd(member, depth + 1))]
    return []


class Hostile(Case):
    def made(self):
        """A function with one of everything, afresh."""
        self.remove(self.target)
        self.function(FunctionName=self.target)
        LAMBDA.publish_version(FunctionName=self.target)
        LAMBDA.create_alias(FunctionName=self.target, Name="live", FunctionVersion="1")
        LAMBDA.add_permission(FunctionName=self.target, StatementId="s", Action="lambda:*", Principal="*")
        LAMBDA.create_function_url_config(FunctionName=self.target, AuthType="NONE")
        LAMBDA.put_function_event_invoke_config(FunctionName=self.target, MaximumRetryAttempts=1)

    def usual(self):
        code = package(ECHO)
        return {
            "FunctionName": self.target, "Runtime": "python3.13", "Handler": "app.handler", "Role": ROLE, "Code": {"ZipFile": code},
            "Name": "live", "FunctionVersion": "1", "StatementId": "s", "Action": "lambda:*", "Principal": "*", "Resource": ARN + self.target,
            "Tags": {"a": "b"}, "TagKeys": ["a"], "LayerName": self.target, "VersionNumber": 1, "Content": {"ZipFile": code},
            "Arn": f"{ARN}{self.target}:1".replace(":function:", ":layer:"), "AuthType": "NONE", "ReservedConcurrentExecutions": 1,
            "ProvisionedConcurrentExecutions": 1, "RecursiveLoop": "Allow", "UpdateRuntimeOn": "Auto", "Payload": b"{}", "InvokeArgs": b"{}",
            "ZipFile": code, "Qualifier": "live",
        }

    def sent(self, operation, parameters):
        """What was wrong with the answer, if anything was."""
        try:
            answer = getattr(UNCHECKED, botocore.xform_name(operation))(**parameters)
        except UNSENDABLE:
            return None
        except ClientError as error:
            status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
            # A head that is none is refused before anybody knows whose it is.
            named = code.endswith("Exception") or (status == 400 and "\x00" in parameters.values())
            return None if (status < 500 or status == 501) and named else (status, error.response["Error"])
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        return None if 200 <= status < 300 else (status, answer)

    def test_whatever_a_client_sends(self):
        # A client that fails in the middle of a request leaves its socket to whoever clears up.
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            self.send_everything()
            gc.collect()

    def send_everything(self):
        self.target = self.name()
        self.addCleanup(self.forget_layers, self.layers())
        self.made()
        LAMBDA.publish_layer_version(LayerName=self.target, Content={"ZipFile": package(ECHO)})
        wrong, sent = [], 0
        for operation in UNCHECKED.meta.service_model.operation_names:
            shape = UNCHECKED.meta.service_model.operation_model(operation).input_shape
            required = [name for name in shape.required_members if name in self.usual()]
            base = {name: self.usual()[name] for name in required}
            if operation == "CreateFunction":
                base = {**base, "FunctionName": f"{self.target}-new", "Runtime": "python3.13", "Handler": "app.handler"}
            for name, member in shape.members.items():
                for value in odd(member):
                    if value == "\n" and member.serialization.get("location") == "header":
                        # Nobody can send it.
                        continue
                    sent += 1
                    found = self.sent(operation, {**base, name: value})
                    if found:
                        wrong.append((operation, name, repr(value)[:60], found))
                    if operation == "CreateFunction":
                        self.remove(base["FunctionName"])
            if not operation.startswith(("Get", "List", "Invoke")):
                self.made()
        self.assertEqual(wrong, [])
        self.assertGreater(sent, 4000)
        self.assertEqual(self.call(self.target, {"n": 1})[0], {"n": 1})

    def layers(self):
        pages = LAMBDA.get_paginator("list_layers").paginate()
        return {layer["LayerName"] for page in pages for layer in page["Layers"]}

    def forget_layers(self, known):
        for name in self.layers() - known:
            for version in LAMBDA.list_layer_versions(LayerName=name)["LayerVersions"]:
                LAMBDA.delete_layer_version(LayerName=name, VersionNumber=version["Version"])
