"""AWS's SDK for JavaScript, as it is on npm."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import projects
from support import ROLE, Case, package, written

PROJECT = projects.HERE / "sdk"
CODE = """
export const handler = async (event, context) => {
  console.log('seen');
  if (event.fail) throw new TypeError(event.fail);
  return { event, id: context.awsRequestId, context: context.clientContext };
};

export const stream = awslambda.streamifyResponse(async (event, out) => {
  for (const piece of event.pieces) out.write(piece);
  out.end();
});
"""


def has_node():
    """The SDK wants this one."""
    if not shutil.which("npm") or not shutil.which("node"):
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=30).stdout
    return int(version.lstrip("v").split(".")[0]) >= 20


class Javascript(Case):
    @unittest.skipUnless(has_node(), "NOT TESTED: there is no npm with Node.js 20 here")
    def test_what_its_users_do(self):
        name = self.name()
        code = written(package({"index.mjs": CODE}), ".zip")
        self.addCleanup(os.unlink, code)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "node_modules").symlink_to(projects.node_modules("sdk"))
            shutil.copy(PROJECT / "calls.mjs", folder)
            command = ["node", str(folder / "calls.mjs"), code, name, ROLE]
            done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("pass 9", done.stdout)
