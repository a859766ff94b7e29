"""Layers: published, found, given to functions of every runtime, and kept by those that have them."""

import base64
import ctypes
import ctypes.util
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
import zipfile

from support import ACCOUNT, ARN, LAMBDA, REGION, ROLE, Case, aws, package, written

LAYER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:"
ARN_FORM = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)"
    r"|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+)"
)
GONE = "The resource you requested does not exist."
# What a handler finds of two modules, and where.
WHERE = """
import importlib, sys

def handler(event, context):
    found = {}
    for name in event:
        try:
            module = importlib.import_module(name)
            found[name] = [module.SAYS, module.__file__]
        except ModuleNotFoundError:
            found[name] = None
    return found
"""
# Answers the same as long as nobody restarts it.
SAYS = "import said, uuid\nWORKER = uuid.uuid4().hex\n\ndef handler(event, context):\n    return [said.SAYS, WORKER]\n"


def says(text, **files):
    """A layer with one module that says something."""
    return package({"python/said.py": f"SAYS = {text!r}\n", **files})


def zipped(files):
    """A zip of bytes, executable."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = 0o755 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return out.getvalue()


class Layered(Case):
    def layer_name(self):
        """Of a layer none of whose versions is there when the test is over."""
        name = f"l-{uuid.uuid4().hex[:12]}"
        self.addCleanup(self.remove_layer, name)
        return name

    def remove_layer(self, name):
        for version in LAMBDA.list_layer_versions(LayerName=name)["LayerVersions"]:
            LAMBDA.delete_layer_version(LayerName=name, VersionNumber=version["Version"])

    def layer(self, content, name=None, **settings):
        """The ARN of a new version."""
        made = LAMBDA.publish_layer_version(
            LayerName=name or self.layer_name(), Content={"ZipFile": content}, **settings
        )
        return made["LayerVersionArn"]


class Publishing(Layered):
    def test_what_is_published_is_given_back(self):
        name, content = self.layer_name(), says("hello")
        made = LAMBDA.publish_layer_version(
            LayerName=name, Description="said", LicenseInfo="MIT", Content={"ZipFile": content},
            CompatibleRuntimes=["python3.13", "ruby3.3"], CompatibleArchitectures=["x86_64", "arm64"],
        )
        self.assertEqual(made["ResponseMetadata"]["HTTPStatusCode"], 201)
        del made["ResponseMetadata"]
        self.assertRegex(made.pop("CreatedDate"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$")
        location = made["Content"].pop("Location")
        with urllib.request.urlopen(location) as answer:
            self.assertEqual(answer.read(), content)
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        wanted = {
            "LayerArn": LAYER + name, "LayerVersionArn": f"{LAYER}{name}:1", "Version": 1, "Description": "said", "LicenseInfo": "MIT",
            "CompatibleRuntimes": ["python3.13", "ruby3.3"], "CompatibleArchitectures": ["x86_64", "arm64"],
            "Content": {"CodeSha256": digest, "CodeSize": len(content)},
        }
        self.assertEqual(made, wanted)
        for got in (
            LAMBDA.get_layer_version(LayerName=name, VersionNumber=1),
            LAMBDA.get_layer_version(LayerName=LAYER + name, VersionNumber=1),
            LAMBDA.get_layer_version_by_arn(Arn=f"{LAYER}{name}:1"),
        ):
            del got["ResponseMetadata"], got["CreatedDate"]
            with urllib.request.urlopen(got["Content"].pop("Location")) as answer:
                self.assertEqual(answer.read(), content)
            self.assertEqual(got, wanted)

    def test_what_was_not_given_is_not_there(self):
        name = self.layer_name()
        made = LAMBDA.publish_layer_version(LayerName=name, Content={"ZipFile": says("x")})
        self.assertEqual(made["Description"], "")
        for absent in ("LicenseInfo", "CompatibleRuntimes", "CompatibleArchitectures"):
            self.assertNotIn(absent, made)
        [listed] = LAMBDA.list_layer_versions(LayerName=name)["LayerVersions"]
        self.assertNotIn("Description", listed)
        empty = LAMBDA.publish_layer_version(
            LayerName=name, Content={"ZipFile": says("x")}, CompatibleRuntimes=[], CompatibleArchitectures=[]
        )
        self.assertEqual((empty["CompatibleRuntimes"], empty["CompatibleArchitectures"]), ([], []))

    def test_numbers_are_never_used_again(self):
        name, content = self.layer_name(), says("the same")
        numbers = [LAMBDA.publish_layer_version(LayerName=name, Content={"ZipFile": content})["Version"] for _ in range(3)]
        self.assertEqual(numbers, [1, 2, 3])
        for number in (2, 3, 1, 1):
            gone = LAMBDA.delete_layer_version(LayerName=name, VersionNumber=number)
            self.assertEqual(gone["ResponseMetadata"]["HTTPStatusCode"], 204)
        self.assertEqual(LAMBDA.list_layer_versions(LayerName=name)["LayerVersions"], [])
        made = LAMBDA.publish_layer_version(LayerName=name, Content={"ZipFile": content})
        self.assertEqual(made["Version"], 4)

    def test_lists_are_filtered_and_paged(self):
        name, other = self.layer_name(), self.layer_name()
        for runtimes, architectures in ((["python3.13"], ["x86_64"]), (["nodejs20.x"], ["x86_64", "arm64"]), ([], [])):
            LAMBDA.publish_layer_version(
                LayerName=name, Content={"ZipFile": says("x")}, CompatibleRuntimes=runtimes,
                CompatibleArchitectures=architectures,
            )
        self.layer(says("y"), other)
        listed = LAMBDA.list_layer_versions(LayerName=name)["LayerVersions"]
        self.assertEqual([version["Version"] for version in listed], [3, 2, 1])
        self.assertEqual(listed[2]["LayerVersionArn"], f"{LAYER}{name}:1")
        self.assertNotIn("Content", listed[0])
        for filters, numbers in (
            ({"CompatibleRuntime": "python3.13"}, [1]), ({"CompatibleArchitecture": "x86_64"}, [2, 1]),
            ({"CompatibleRuntime": "nodejs20.x", "CompatibleArchitecture": "arm64"}, [2]), ({"CompatibleRuntime": "java21"}, []),
        ):
            found = LAMBDA.list_layer_versions(LayerName=name, **filters)["LayerVersions"]
            self.assertEqual([version["Version"] for version in found], numbers, filters)
        first = LAMBDA.list_layer_versions(LayerName=name, MaxItems=2)
        second = LAMBDA.list_layer_versions(LayerName=name, MaxItems=2, Marker=first["NextMarker"])
        numbers = [version["Version"] for page in (first, second) for version in page["LayerVersions"]]
        self.assertEqual(numbers, [3, 2, 1])
        self.assertNotIn("NextMarker", second)

        pages = LAMBDA.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 1})
        layers = {layer["LayerName"]: layer for page in pages for layer in page["Layers"]}
        self.assertEqual(layers[name]["LayerArn"], LAYER + name)
        self.assertEqual(layers[name]["LatestMatchingVersion"]["Version"], 3)
        self.assertIn(other, layers)
        found = LAMBDA.list_layers(CompatibleRuntime="python3.13")["Layers"]
        found = {layer["LayerName"]: layer["LatestMatchingVersion"]["Version"] for layer in found}
        self.assertEqual((found[name], other in found), (1, False))
        refused = self.refused("InvalidParameterValueException", 400, LAMBDA.list_layers, Marker="~")
        self.assertEqual(refused, "Failed to decrypt the pagination token.")

    def test_what_is_wrong_is_said_in_awss_words(self):
        name = self.layer_name()
        self.layer(says("x"), name)
        publish, content = LAMBDA.publish_layer_version, {"ZipFile": says("x")}
        said = self.refused(
            "ValidationException", 400, publish, LayerName=name, Content=content,
            CompatibleRuntimes=["invalidruntime", "nodejs20.x"], CompatibleArchitectures=["invalidarch", "x86_64"],
        )
        self.assertRegex(
            said,
            r"^2 validation errors detected: Value '\[invalidruntime, nodejs20.x\]' at 'compatibleRuntimes' failed to satisfy constraint: "
            r"Member must satisfy enum value set: \[.*\]; Value '\[invalidarch, x86_64\]' at 'compatibleArchitectures' failed to satisfy "
            r"constraint: Member must satisfy constraint: \[Member must satisfy enum value set: \[x86_64, arm64\], Member must not be null\]$",
        )
        said = self.refused("ValidationException", 400, publish, LayerName="a!", Content=content)
        self.assertIn("Value 'a!' at 'layerName' failed to satisfy constraint: Member must satisfy regular expression pattern", said)
        said = self.refused("InvalidParameterValueException", 400, publish, LayerName=name, Content={"ZipFile": b"no zip"})
        self.assertEqual(said, "Could not unzip uploaded file. Please check your file, then try to upload again.")
        for content in ({"S3Bucket": "bucket", "S3Key": "k"}, {}):
            self.refused("InvalidParameterValueException", 400, publish, LayerName=name, Content=content)
        out = zipfile.ZipInfo("python/out", (2020, 1, 1, 0, 0, 0))
        out.external_attr = 0o120777 << 16
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(out, "../../../etc/passwd")
            file.writestr("python/said.py", "")
        said = self.refused("InvalidParameterValueException", 400, publish, LayerName=name, Content={"ZipFile": archive.getvalue()})
        self.assertIn("python/out", said)
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("../out", "x")
        self.refused("InvalidParameterValueException", 400, publish, LayerName=name, Content={"ZipFile": archive.getvalue()})
        numbers = [version["Version"] for version in LAMBDA.list_layer_versions(LayerName=name)["LayerVersions"]]
        self.assertEqual(numbers, [1], "what was refused took a number")

        get, number = LAMBDA.get_layer_version, "Layer Version Cannot be less than 1"
        for wrong in (0, -1):
            self.assertEqual(self.refused("InvalidParameterValueException", 400, get, LayerName=name, VersionNumber=wrong), number)
        delete = LAMBDA.delete_layer_version
        self.assertEqual(self.refused("InvalidParameterValueException", 400, delete, LayerName=name, VersionNumber=-1), number)
        for missing, version in ((name, 2), ("layerdoesnotexist", 1)):
            self.assertEqual(self.refused("ResourceNotFoundException", 404, get, LayerName=missing, VersionNumber=version), GONE)
            delete(LayerName=missing, VersionNumber=version)
        by_arn = LAMBDA.get_layer_version_by_arn
        self.assertEqual(self.refused("ResourceNotFoundException", 404, by_arn, Arn=f"{LAYER}{name}:2"), GONE)
        said = self.refused("ValidationException", 400, by_arn, Arn=LAYER + name)
        self.assertEqual(
            said,
            f"1 validation error detected: Value '{LAYER}{name}' at 'arn' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {ARN_FORM}",
        )
        theirs = f"arn:aws:lambda:{REGION}:017000801446:layer:{name}:1"
        said = self.refused("AccessDeniedException", 403, by_arn, Arn=theirs)
        self.assertIn(f"is not authorized to perform: lambda:GetLayerVersion on resource: {theirs}", said)
        said = self.refused("ValidationException", 400, LAMBDA.list_layers, CompatibleRuntime="runtimedoesnotexist")
        self.assertIn("Value 'runtimedoesnotexist' at 'compatibleRuntime' failed to satisfy constraint: Member must satisfy enum", said)
        said = self.refused("ValidationException", 400, LAMBDA.list_layers, CompatibleArchitecture="archdoesnotexist")
        self.assertEqual(
            said,
            "1 validation error detected: Value 'archdoesnotexist' at 'compatibleArchitecture' failed to satisfy constraint: "
            "Member must satisfy enum value set: [x86_64, arm64]",
        )
        self.assertEqual(LAMBDA.list_layer_versions(LayerName="layerdoesnotexist")["LayerVersions"], [])

    def test_policies_are_kept(self):
        name = self.layer_name()
        self.layer(says("x"), name)
        at = {"LayerName": name, "VersionNumber": 1}
        get, add, remove = LAMBDA.get_layer_version_policy, LAMBDA.add_layer_version_permission, LAMBDA.remove_layer_version_permission
        said = self.refused("ResourceNotFoundException", 404, get, **at)
        self.assertEqual(said, "No policy is associated with the given resource.")
        statement = {"Action": "lambda:GetLayerVersion", "Principal": "*"}
        first = add(**at, StatementId="s1", **statement)
        self.assertEqual(first["ResponseMetadata"]["HTTPStatusCode"], 201)
        wanted = {"Sid": "s1", "Effect": "Allow", "Principal": "*", "Action": "lambda:GetLayerVersion", "Resource": f"{LAYER}{name}:1"}
        self.assertEqual(json.loads(first["Statement"]), wanted)
        got = get(**at)
        self.assertEqual(json.loads(got["Policy"]), {"Version": "2012-10-17", "Id": "default", "Statement": [wanted]})
        self.assertEqual(got["RevisionId"], first["RevisionId"])
        said = self.refused("ResourceConflictException", 409, add, **at, StatementId="s1", **statement)
        self.assertEqual(
            said,
            "The statement id (s1) provided already exists. Please provide a new statement id, or remove the existing statement.",
        )
        said = self.refused("ValidationException", 400, add, **at, StatementId="s2", Action="*", Principal="*")
        self.assertEqual(
            said,
            "1 validation error detected: Value '*' at 'action' failed to satisfy constraint: Member must satisfy regular expression "
            "pattern: lambda:GetLayerVersion",
        )
        stale = (
            "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest "
            "Revision Id"
        )
        for call, more in ((add, {"StatementId": "s2", **statement}), (remove, {"StatementId": "s1"})):
            said = self.refused("PreconditionFailedException", 412, call, **at, RevisionId="wrong", **more)
            self.assertEqual(said, stale)
        second = add(
            **at, StatementId="s2", RevisionId=first["RevisionId"], Action="lambda:GetLayerVersion", Principal="123456789012",
            OrganizationId="o-0123456789",
        )
        self.assertNotEqual(second["RevisionId"], first["RevisionId"])
        self.assertEqual(json.loads(second["Statement"])["Condition"], {"StringEquals": {"aws:PrincipalOrgID": "o-0123456789"}})
        said = self.refused("ResourceNotFoundException", 404, remove, **at, StatementId="doesnotexist")
        self.assertEqual(said, "Statement doesnotexist is not found in resource policy.")
        gone = remove(**at, StatementId="s2")
        self.assertEqual(gone["ResponseMetadata"]["HTTPStatusCode"], 204)
        self.assertEqual(json.loads(get(**at)["Policy"])["Statement"], [wanted])
        for missing, number in ((name, 2), (f"{name}-doesnotexist", 1)):
            nowhere = {"LayerName": missing, "VersionNumber": number}
            for call, more in ((add, {"StatementId": "s", **statement}), (get, {}), (remove, {"StatementId": "s1"})):
                said = self.refused("ResourceNotFoundException", 404, call, **nowhere, **more)
                self.assertEqual(said, f"Layer version {LAYER}{missing}:{number} does not exist.")

    def test_the_command_line(self):
        name = self.layer_name()
        content = written(says("typed"), ".zip")
        self.addCleanup(os.unlink, content)
        made = aws(
            "publish-layer-version", "--layer-name", name, "--description", "typed", "--license-info", "MIT",
            "--zip-file", f"fileb://{content}", "--compatible-runtimes", "python3.13", "python3.12",
        )
        self.assertEqual(made["LayerVersionArn"], f"{LAYER}{name}:1")
        got = aws("get-layer-version", "--layer-name", name, "--version-number", "1")
        self.assertEqual(got["Description"], "typed")
        self.assertEqual(aws("get-layer-version-by-arn", "--arn", made["LayerVersionArn"])["Version"], 1)
        function = self.function(SAYS, Layers=[made["LayerVersionArn"]])
        answer, _ = self.call(function)
        self.assertEqual(answer[0], "typed")
        shown = aws("get-function-configuration", "--function-name", function, "--query", "Layers[].Arn")
        self.assertEqual(shown, [made["LayerVersionArn"]])
        aws("update-function-configuration", "--function-name", function, "--layers", "[]")
        self.assertNotIn("Layers", aws("get-function-configuration", "--function-name", function))
        listed = aws("list-layers", "--query", f"Layers[?LayerName=='{name}'].LatestMatchingVersion.Version")
        self.assertEqual(listed, [1])
        aws("delete-layer-version", "--layer-name", name, "--version-number", "1")
        gone = aws("get-layer-version", "--layer-name", name, "--version-number", "1", check=False)
        self.assertIn("ResourceNotFoundException", gone.stderr)


class Attaching(Layered):
    def test_a_function_shows_its_layers(self):
        first, second = self.layer(says("1")), self.layer(says("2"))
        name = self.function(SAYS, Layers=[second, first])
        sizes = {arn: LAMBDA.get_layer_version_by_arn(Arn=arn)["Content"]["CodeSize"] for arn in (first, second)}
        wanted = [{"Arn": arn, "CodeSize": sizes[arn]} for arn in (second, first)]
        shown = LAMBDA.get_function(FunctionName=name)["Configuration"]
        self.assertEqual(shown["Layers"], wanted)
        listed = {f["FunctionName"]: f for page in LAMBDA.get_paginator("list_functions").paginate() for f in page["Functions"]}
        self.assertEqual(listed[name]["Layers"], wanted)
        changed = LAMBDA.update_function_configuration(FunctionName=name, Layers=[first])
        self.assertEqual((changed["Layers"], changed["LastUpdateStatus"]), (wanted[1:], "InProgress"))
        self.assertNotEqual(changed["RevisionId"], shown["RevisionId"])
        # What says nothing of them leaves them alone.
        LAMBDA.update_function_configuration(FunctionName=name, Timeout=7)
        LAMBDA.update_function_code(FunctionName=name, ZipFile=package(SAYS + "# changed\n"))
        self.assertEqual(LAMBDA.get_function_configuration(FunctionName=name)["Layers"], wanted[1:])
        LAMBDA.update_function_configuration(FunctionName=name, Layers=[])
        self.assertNotIn("Layers", LAMBDA.get_function_configuration(FunctionName=name))

    def test_what_a_function_cannot_have(self):
        layer = self.layer_name()
        arns = [self.layer(says(str(number)), layer) for number in range(3)]
        name = self.function(SAYS, Layers=[arns[0]])
        update, kind = LAMBDA.update_function_configuration, "InvalidParameterValueException"
        two = "Two different versions of the same layer are not allowed to be referenced in the same function. {} and {} are versions of the same layer."
        for given, one, other in ((arns[:2], 0, 1), (arns, 0, 1), ([arns[0], arns[0]], 0, 0)):
            said = self.refused(kind, 400, update, FunctionName=name, Layers=given)
            self.assertEqual(said, two.format(arns[one], arns[other]))
        for missing in (f"{LAYER}doesnotexist:1", f"{LAYER}{layer}:9", f"{LAYER}{layer}:0"):
            said = self.refused(kind, 400, update, FunctionName=name, Layers=[missing])
            self.assertEqual(said, f"Layer version {missing} does not exist.")
        bare = LAYER + layer
        said = self.refused("ValidationException", 400, update, FunctionName=name, Layers=[bare])
        self.assertEqual(
            said,
            f"1 validation error detected: Value '[{bare}]' at 'layers' failed to satisfy constraint: Member must satisfy constraint: "
            "[Member must have length less than or equal to 2048, Member must have length greater than or equal to 1, "
            f"Member must satisfy regular expression pattern: {ARN_FORM}, Member must not be null]",
        )
        create = {"FunctionName": self.name(), "Runtime": "python3.13", "Handler": "app.handler", "Role": ROLE}
        code = {"ZipFile": package(SAYS)}
        far = arns[0].replace(REGION, "eu-south-2")
        said = self.refused(kind, 400, LAMBDA.create_function, Code=code, Layers=[far], **create)
        self.assertEqual(said, f"Layers are not in the same region as the function. Layers are expected to be in region {REGION}.")
        theirs = arns[0].replace(ACCOUNT, "017000801446")
        self.refused("AccessDeniedException", 403, LAMBDA.create_function, Code=code, Layers=[theirs], **create)
        six = [self.layer(says(str(number))) for number in range(6)]
        said = self.refused(kind, 400, LAMBDA.create_function, Code=code, Layers=six, **create)
        self.assertEqual(said, "Cannot reference more than 5 layers.")
        LAMBDA.create_function(Code=code, Layers=six[:5], **create)
        self.assertEqual(self.call(create["FunctionName"])[0][0], "4")
        # Nothing that was refused changed anything.
        self.assertEqual([layer["Arn"] for layer in LAMBDA.get_function_configuration(FunctionName=name)["Layers"]], arns[:1])
        self.assertEqual(self.call(name)[0][0], "0")

    def test_layers_and_code_are_bounded_together(self):
        half = zipped({"data": bytes(130 * 1024 * 1024), "noise": os.urandom(1024 * 1024)})
        arns = [self.layer(half), self.layer(half)]
        name = self.function(WHERE, Layers=arns[:1])
        size = 2 * 131 * 1024 * 1024 + len(WHERE)
        too_large = (
            "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. "
            f"The actual size is {size} bytes."
        )
        update = LAMBDA.update_function_configuration
        said = self.refused("InvalidParameterValueException", 400, update, FunctionName=name, Layers=arns)
        self.assertEqual(said, too_large)
        # The same by the other way: more code for the layer there is.
        said = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.update_function_code, FunctionName=name, ZipFile=half
        )
        self.assertIn("combined with layers", said)
        self.assertEqual(self.call(name, [])[0], {})

    def test_the_native_face_has_them_too(self):
        first, second = self.layer_name(), self.layer_name()
        arns = [self.layer(says("1"), first), self.layer(says("2"), second)]
        name = self.function(SAYS, Layers=arns[:1])

        def native(method, body=None):
            request = urllib.request.Request(
                f"{os.environ['HEARTH_URL']}/functions/{name}", method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={"authorization": f"Bearer {os.environ['HEARTH_KEY']}", "content-type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, json.load(error)

        self.assertEqual(native("GET")["layers"], [f"{first}:1"])
        self.assertEqual(native("PUT", {"description": "changed", "memory": 256})["layers"], [f"{first}:1"])
        self.assertEqual(self.call(name)[0][0], "1")
        changed = native("PUT", {"layers": [f"{first}:1", f"{second}:1"]})
        self.assertEqual(changed["layers"], [f"{first}:1", f"{second}:1"])
        self.assertEqual(self.call(name)[0][0], "2")
        for wrong in (["x"], [f"{first}:2"], [f"{first}:1"] * 2, ["a:1"] * 6, "x", [1]):
            status, error = native("PUT", {"layers": wrong})
            self.assertEqual((status, error["error"]["faults"][0]["field"]), (400, "layers"), error)
        # One that was deleted stays where it is, and can be left in its place.
        LAMBDA.delete_layer_version(LayerName=first, VersionNumber=1)
        changed = native("PUT", {"layers": [f"{second}:1", f"{first}:1"]})
        self.assertEqual(changed["layers"], [f"{second}:1", f"{first}:1"])
        self.assertEqual(self.call(name)[0][0], "1")


class Running(Layered):
    def test_modules_are_found_in_awss_places(self):
        layer = self.layer(
            package({
                "python/top.py": "SAYS = 'top'\n",
                "python/lib/python3.13/site-packages/site.py": "raise SystemExit('the interpreter has a module of this name')\n",
                "python/lib/python3.13/site-packages/sited.py": "SAYS = 'sited'\n",
                "python/own.py": "SAYS = 'layer'\n",
                "python/both.py": "SAYS = 'top'\n",
                "python/lib/python3.13/site-packages/both.py": "SAYS = 'sited'\n",
            })
        )
        name = self.function({"app.py": WHERE, "own.py": "SAYS = 'function'\n"}, Layers=[layer])
        answer, _ = self.call(name, ["top", "sited", "own", "both", "none"])
        site = "/opt/python/lib/python3.13/site-packages"
        self.assertEqual(answer, {
            "top": ["top", "/opt/python/top.py"], "sited": ["sited", f"{site}/sited.py"], "own": ["function", "/var/task/own.py"],
            "both": ["sited", f"{site}/both.py"], "none": None,
        })

    def test_later_layers_are_over_earlier_ones(self):
        first = self.layer(package({"python/said.py": "SAYS = 'first'\n", "python/first.py": "SAYS = 1\n", "python/kind/a.py": "SAYS = 1\n"}))
        second = self.layer(package({"python/said.py": "SAYS = 'second'\n", "python/second.py": "SAYS = 2\n", "python/kind/b.py": "SAYS = 2\n"}))
        names = ["said", "first", "second", "kind.a", "kind.b"]
        for layers, said in (([first, second], "second"), ([second, first], "first")):
            name = self.function(WHERE, Layers=layers)
            answer, _ = self.call(name, names)
            self.assertEqual([answer[module][0] for module in names], [said, 1, 2, 1, 2])
        LAMBDA.update_function_configuration(FunctionName=name, Layers=[first, second])
        self.assertEqual(self.call(name, names)[0]["said"][0], "second")

    def library(self):
        zlib = ctypes.util.find_library("z")
        if zlib is None:
            self.skipTest("this machine has no zlib to put into a package")
        ctypes.CDLL(zlib)
        with open("/proc/self/maps") as maps:
            path = next(line.split()[-1] for line in maps if "/libz.so" in line)
        with open(path, "rb") as file:
            return file.read()

    def test_the_code_brings_libraries_too(self):
        library = self.library()
        code = """
import ctypes, os

def handler(event, context):
    found = [os.path.basename(name) for name in event if ctypes.CDLL(name).zlibVersion]
    return [found, sorted(os.listdir("/var/task"))]
"""
        both = {"lib/libbelow.so": library, "libbeside.so": library}
        name = self.function({"app.py": code, **both})
        names = ["libbelow.so", "libbeside.so"]
        # With workers that waited for it and with new ones.
        for memory in (128, 256, 512):
            LAMBDA.update_function_configuration(FunctionName=name, MemorySize=memory)
            self.assertEqual(self.call(name, names)[0], [names, ["app.py", "lib", "libbeside.so"]])
        self.assertEqual(self.call(self.function(code), [])[0], [[], ["app.py"]])

    def test_opt_is_read_only_and_has_programs_and_libraries(self):
        library = self.library()
        layer = self.layer(zipped({
            "bin/greet": "#!/bin/sh\necho hello from $0\n", "lib/libfromlayer.so": library, "data.txt": "data",
        }))
        code = """
import ctypes, os, subprocess

def handler(event, context):
    refused = []
    for path in ("/opt/new", "/opt/data.txt", "/opt/bin/greet", "/hearth/opt/new"):
        try:
            open(path, "w")
        except OSError as error:
            refused.append(error.strerror)
    with open("/opt/data.txt") as file:
        data = file.read()
    version = ctypes.CDLL("libfromlayer.so").zlibVersion
    version.restype = ctypes.c_char_p
    greeting = subprocess.run(["greet"], capture_output=True, text=True, check=True).stdout
    return [sorted(set(refused)), data, version().decode(), greeting, sorted(os.listdir("/opt"))]
"""
        name = self.function(code, Layers=[layer])
        refused, data, version, greeting, listed = self.call(name)[0]
        self.assertEqual(refused, ["Read-only file system"])
        self.assertEqual((data, greeting), ("data", "hello from /opt/bin/greet\n"))
        self.assertRegex(version, r"^\d+\.\d+")
        self.assertEqual(listed, ["bin", "data.txt", "lib"])

    def test_an_update_is_what_the_next_call_finds(self):
        layer = self.layer_name()
        first = self.layer(says("first"), layer)
        name = self.function(SAYS, Layers=[first])
        (said, worker), _ = self.call(name)
        self.assertEqual((said, self.call(name)[0]), ("first", ["first", worker]), "it is not warm")
        for number in range(3):
            arn = self.layer(says(f"number {number}"), layer)
            LAMBDA.update_function_configuration(FunctionName=name, Layers=[arn])
            said, other = self.call(name)[0]
            self.assertEqual(said, f"number {number}")
            self.assertNotEqual(other, worker)
        # The same again is served by who is there.
        LAMBDA.update_function_configuration(FunctionName=name, Layers=[arn], Description="the same layers")
        self.assertEqual(self.call(name)[0], [said, other])

    def test_a_version_keeps_its_layers(self):
        layer = self.layer_name()
        first, second = self.layer(says("first"), layer), self.layer(says("second"), layer)
        name = self.function(SAYS, Layers=[first])
        one = LAMBDA.publish_version(FunctionName=name)
        self.assertEqual((one["Version"], one["Layers"][0]["Arn"]), ("1", first))
        again = LAMBDA.publish_version(FunctionName=name)
        self.assertEqual(again["Version"], "1")
        LAMBDA.update_function_configuration(FunctionName=name, Layers=[second])
        self.assertEqual(LAMBDA.publish_version(FunctionName=name)["Version"], "2")
        LAMBDA.update_function_configuration(FunctionName=name, Layers=[])
        for number in (1, 2):
            LAMBDA.delete_layer_version(LayerName=layer, VersionNumber=number)
        for qualifier, said, arn in (("1", "first", first), ("2", "second", second)):
            self.assertEqual(self.call(name, Qualifier=qualifier)[0][0], said)
            shown = LAMBDA.get_function_configuration(FunctionName=name, Qualifier=qualifier)
            self.assertEqual([layer["Arn"] for layer in shown["Layers"]], [arn])
        answer, response = self.call(name)
        self.assertEqual((answer["errorType"], response["FunctionError"]), ("Runtime.ImportModuleError", "Unhandled"))

    def test_a_layer_that_was_deleted_still_works(self):
        layer = self.layer_name()
        arn = self.layer(says("kept"), layer)
        name = self.function(SAYS, Layers=[arn])
        LAMBDA.delete_layer_version(LayerName=layer, VersionNumber=1)
        self.assertEqual(self.call(name)[0][0], "kept")
        # Whatever else is changed makes new workers.
        LAMBDA.update_function_configuration(FunctionName=name, MemorySize=256)
        LAMBDA.update_function_code(FunctionName=name, ZipFile=package(SAYS + "# changed\n"))
        self.assertEqual(self.call(name)[0][0], "kept")
        LAMBDA.update_function_configuration(FunctionName=name, Layers=[arn], MemorySize=192)
        self.assertEqual(self.call(name)[0][0], "kept")
        # But nobody else gets it any more.
        said = self.refused(
            "InvalidParameterValueException", 400, LAMBDA.create_function, FunctionName=self.name(), Runtime="python3.13",
            Handler="app.handler", Role=ROLE, Code={"ZipFile": package(SAYS)}, Layers=[arn],
        )
        self.assertEqual(said, f"Layer version {arn} does not exist.")

    def test_modules_of_node(self):
        layer = self.layer(package({
            "nodejs/node_modules/common/package.json": '{"name": "common", "main": "main.js"}',
            "nodejs/node_modules/common/main.js": "exports.says = 'common';",
            "nodejs/node_modules/modern/package.json": '{"name": "modern", "type": "module", "exports": "./main.js"}',
            "nodejs/node_modules/modern/main.js": "import { says } from 'inner';\nexport const told = `modern and ${says}`;",
            "nodejs/node_modules/inner/package.json": '{"name": "inner", "type": "module", "exports": "./main.js"}',
            "nodejs/node_modules/inner/main.js": "export const says = 'inner';",
            "nodejs/node20/node_modules/versioned/index.js": "exports.says = 'versioned';",
            "nodejs/node_modules/versioned/index.js": "exports.says = 'not this one';",
            "nodejs/node_modules/own/index.js": "exports.says = 'layer';",
        }))
        own = {"node_modules/own/index.js": "exports.says = 'function';"}
        common = {
            "index.js": "const names = ['common', 'versioned', 'own'];\n"
            "exports.handler = async () => [...names.map((name) => require(name).says), (await import('modern')).told];",
            **own,
        }
        modern = {
            "index.mjs": "import common from 'common';\nimport versioned from 'versioned';\nimport own from 'own';\nimport { told } from 'modern';\n"
            "export const handler = async () => [common.says, versioned.says, own.says, told];",
            **own,
        }
        wanted = ["common", "versioned", "function", "modern and inner"]
        for code in (common, modern):
            name = self.function(code, Runtime="nodejs20.x", Handler="index.handler", Layers=[layer])
            self.assertEqual(self.call(name)[0], wanted)
        missing = {"index.mjs": "import 'nowhere';\nexport const handler = async () => 1;"}
        name = self.function(missing, Runtime="nodejs20.x", Handler="index.handler", Layers=[layer])
        answer, _ = self.call(name)
        self.assertEqual(answer["errorType"], "Error")
        self.assertIn("Cannot find package 'nowhere' imported from /var/task/index.mjs", answer["errorMessage"])

    def test_a_bootstrap_may_be_a_layer(self):
        template = os.path.join(os.path.dirname(__file__), "../../runtimes/provided/template/bootstrap")
        with open(template) as file:
            bootstrap = file.read()
        layer = self.layer(zipped({"bootstrap": bootstrap}))
        settings = {"Runtime": "provided.al2023", "Handler": "x"}
        name = self.function({"data": "no program"}, Layers=[layer], **settings)
        answer, response = self.call(name, {"name": "layer"})
        self.assertNotIn("FunctionError", response, answer)
        LAMBDA.update_function_configuration(FunctionName=name, Layers=[])
        answer, _ = self.call(name, {"name": "layer"})
        self.assertEqual(answer["errorType"], "Runtime.InvalidEntrypoint")
        # The function's own goes first.
        own = zipped({"bootstrap": "#!/bin/sh\nexit 7\n"})
        LAMBDA.update_function_code(FunctionName=name, ZipFile=own)
        LAMBDA.update_function_configuration(FunctionName=name, Layers=[layer])
        answer, _ = self.call(name)
        self.assertIn("exit status 7", answer["errorMessage"])

    def test_a_layer_of_the_size_people_have(self):
        """NumPy, as it is on PyPI."""
        wheels = os.path.join(sys.prefix, "wheels")
        machine = platform.machine()
        if not (os.path.isdir(wheels) and os.listdir(wheels)):
            subprocess.run(
                [
                    sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
                    "--python-version", "3.13", "--platform", f"manylinux2014_{machine}", "--platform", f"manylinux_2_28_{machine}",
                    "--dest", wheels, "numpy==2.1.3",
                ],
                check=True, timeout=300,
            )
        (wheel,) = os.listdir(wheels)
        out = io.BytesIO()
        with zipfile.ZipFile(os.path.join(wheels, wheel)) as files, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for entry in files.infolist():
                if "/tests/" not in entry.filename:
                    archive.writestr(f"python/lib/python3.13/site-packages/{entry.filename}", files.read(entry))
        layer = self.layer(out.getvalue(), CompatibleRuntimes=["python3.13"])
        code = "import numpy\n\ndef handler(event, context):\n    return [numpy.__version__, float(numpy.linalg.det(numpy.array(event)))]\n"
        name = self.function(code, Layers=[layer], Timeout=60, MemorySize=512)
        version, value = self.call(name, [[2, 0], [0, 3]])[0]
        self.assertEqual(version, "2.1.3")
        self.assertAlmostEqual(value, 6.0)
        self.assertEqual(LAMBDA.get_function_configuration(FunctionName=name)["FunctionArn"], ARN + name)
