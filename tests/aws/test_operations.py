"""Every operation that botocore knows: none is answered by something its clients cannot read, and docs/aws-lambda.md says which are not here."""

import pathlib
import re

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from support import ARN, Case, client

# Given as they are: some of the values below are nothing that AWS takes.
CLIENT = boto3.client("lambda", config=Config(retries={"max_attempts": 0}, read_timeout=60, parameter_validation=False))
MODEL = CLIENT.meta.service_model
TEXTS = {"FunctionName": "of-nobody", "UUID": "01234567-0123-4123-8123-0123456789ab"}
WHOLE = {"integer", "long"}


def value(shape, name=""):
    """The least that an operation wants, of nothing that there is."""
    match shape.type_name:
        case "structure":
            return {name: value(shape.members[name], name) for name in shape.required_members}
        case "list":
            return [value(shape.member)]
        case "map":
            return {"a": value(shape.value)}
        case "boolean":
            return False
        case "blob":
            return b"{}"
        case kind if kind in WHOLE:
            return max(1, shape.metadata.get("min", 1))
        case "string" if shape.enum:
            return shape.enum[0]
        case "string":
            return TEXTS.get(name) or (ARN + "of-nobody" if "arn" in name.lower() else "x1")
        case kind:
            raise NotImplementedError(f"{name}: {kind}")


def documented():
    """The operations of the table, and what it says of each."""
    text = pathlib.Path(__file__).parents[2].joinpath("docs/aws-lambda.md").read_text()
    return dict(re.findall(r"^\| ([A-Z]\w+) \| (yes|partly|no) \|", text, re.MULTILINE))


class Operations(Case):
    def test_the_table_has_them_all(self):
        self.assertEqual(sorted(documented()), sorted(MODEL.operation_names))

    def test_each_is_answered_as_its_clients_read_it(self):
        for operation, here in documented().items():
            with self.subTest(operation):
                shape = MODEL.operation_model(operation).input_shape
                call = getattr(CLIENT, xform_name(operation))
                try:
                    answer = call(**value(shape) if shape else {})
                    kind = None
                except ClientError as error:
                    answer = error.response
                    kind = answer["Error"]["Code"]
                    self.assertRegex(kind, r"^[A-Z]\w+Exception$")
                    self.assertTrue(answer["Error"]["Message"])
                meta = answer["ResponseMetadata"]
                self.assertRegex(meta["RequestId"], r"^[0-9a-f-]{36}$")
                self.assertIn(meta["HTTPStatusCode"], (501,) if here == "no" else range(200, 500))
                self.assertEqual(kind == "NotImplementedException", here == "no")

    def test_what_is_no_operation(self):
        # A client that knows an operation which nobody here has heard of.
        other = client()
        other.meta.events.register("before-sign.lambda.*", lambda request, **_: setattr(request, "url", request.url + "-nothing/"))
        with self.assertRaises(ClientError) as caught:
            other.get_account_settings()
        self.assertEqual(caught.exception.response["ResponseMetadata"]["HTTPStatusCode"], 404)
        self.assertRegex(caught.exception.response["Error"]["Code"], r"^[A-Z]\w+Exception$")
