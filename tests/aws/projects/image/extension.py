#!/usr/bin/python3.13
"""Runs beside the function, and counts what it is told."""

import http.client
import json
import os

API = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def ask(method, path, body=None, **headers):
    API.request(method, "/2020-01-01/extension" + path, body, headers)
    response = API.getresponse()
    return response, response.read()


response, _ = ask("POST", "/register", json.dumps({"events": ["INVOKE"]}), **{"Lambda-Extension-Name": os.path.basename(__file__)})
me = {"Lambda-Extension-Identifier": response.headers["Lambda-Extension-Identifier"]}
while True:
    event = json.loads(ask("GET", "/event/next", **me)[1])
    print("extension of", os.path.dirname(__file__), "told of", event["eventType"], flush=True)
