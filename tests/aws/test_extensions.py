"""Programs that a layer brings along: started before the bootstrap, told of calls, and of the end of their worker."""

import json
import os
import urllib.request

from support import LAMBDA, ROLE, Case, package

BOOTSTRAP = """#!/bin/bash
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
headers=$(mktemp)
while event=$(curl -s -f -D "$headers" "$api/next"); do
    id=$(sed -n 's/^lambda-runtime-aws-request-id: *\\([^\\r]*\\).*/\\1/Ip' "$headers")
    curl -s -o /dev/null "$api/$id/response" -d "$event"
done
"""

WATCHER = """#!/bin/bash
api="http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension"
headers=$(mktemp)
curl -s -o /dev/null -D "$headers" -H 'Lambda-Extension-Name: watcher' -d '{"events": ["INVOKE", "SHUTDOWN"]}' "$api/register"
id=$(sed -n 's/^lambda-extension-identifier: *\\([^\\r]*\\).*/\\1/Ip' "$headers")
echo 'watcher registered'
while event=$(curl -s -f -H "Lambda-Extension-Identifier: $id" "$api/event/next"); do
    echo "told $event"
    case $event in
    *SHUTDOWN*)
        # What flushes what it has gathered takes its time.
        sleep 0.5
        echo 'last words'
        exit 0
        ;;
    esac
done
"""


class Extensions(Case):
    def told(self, name):
        """Everything a function's workers printed, as the native face tells it."""
        request = urllib.request.Request(
            f"{os.environ['HEARTH_URL']}/functions/{name}/logs", headers={"Authorization": f"Bearer {os.environ['HEARTH_KEY']}"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return "\n".join(line["text"] for line in json.load(response)["items"])

    def test_one_out_of_a_layer(self):
        layer = LAMBDA.publish_layer_version(LayerName="watching", Content={"ZipFile": package({"extensions/watcher": WATCHER})})
        self.addCleanup(LAMBDA.delete_layer_version, LayerName="watching", VersionNumber=layer["Version"])
        name = self.name()
        LAMBDA.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="any", Role=ROLE, Timeout=20,
            Code={"ZipFile": package({"bootstrap": BOOTSTRAP})}, Layers=[layer["LayerVersionArn"]],
        )
        for n in (1, 2):
            body, answer = self.call(name, {"n": n})
            self.assertEqual(body, {"n": n})
            request_id = answer["ResponseMetadata"]["RequestId"]
            self.until(lambda: f'"requestId":"{request_id}"' in self.told(name))
        self.assertIn("watcher registered", self.told(name))
        # Its worker is replaced, and it is told so before it is removed.
        LAMBDA.update_function_configuration(FunctionName=name, MemorySize=192)
        self.until(lambda: "last words" in self.told(name))
        self.assertIn('"shutdownReason":"spindown"', self.told(name))
