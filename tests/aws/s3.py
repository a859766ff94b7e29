"""A service that speaks S3 and SQS and looks at every signature: moto, with its IAM. Writes where it is and who may do what into the file that it is
given, and serves until it is ended. Its buckets are `code`, and `private`, which Hearth's key may not read; of queues that key may do what
event source mappings and destinations need, but for those that begin with `private`."""

import json
import os
import pathlib
import sys
import threading

import boto3
from moto.core.authorization import enable_iam_authentication
from moto.server import ThreadedMotoServer

REGION = os.environ["AWS_TEST_REGION"]
READS = {"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}
BUT = {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::private/*"}
TAKES = {
    "Effect": "Allow", "Resource": "*",
    "Action": [
        f"sqs:{action}" for action in ("GetQueueUrl", "GetQueueAttributes", "ReceiveMessage", "DeleteMessage*", "ChangeMessageVisibility*", "SendMessage")
    ],
}
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def main(file):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    as_nobody = {"endpoint_url": endpoint, "region_name": REGION, "aws_access_key_id": "x", "aws_secret_access_key": "x"}
    iam = boto3.client("iam", **as_nobody)

    def key(user, *statements):
        iam.create_user(UserName=user)
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName=user, PolicyName="policy", PolicyDocument=policy)
        made = iam.create_access_key(UserName=user)["AccessKey"]
        return [made["AccessKeyId"], made["SecretAccessKey"]]

    told = {"endpoint": endpoint, "pid": os.getpid(), "hearth": key("hearth", READS, BUT, TAKES), "owner": key("owner", ALL)}
    s3 = boto3.client("s3", **as_nobody)
    for bucket in ("code", "private"):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket="code", VersioningConfiguration={"Status": "Enabled"})
    with enable_iam_authentication():
        whole = pathlib.Path(file + ".part")
        whole.write_text(json.dumps(told))
        whole.rename(file)
        threading.Event().wait()


main(*sys.argv[1:])
