"""A damaged model folder: the worker refuses to start and says which file or tensor is wrong."""

import json
import os
import pathlib
import struct
import subprocess
import tempfile
import unittest

from harness import BIN, ROOT

DEMO = ROOT / "models/demo"
SHARD = "model-00001-of-00002.safetensors"


def read_header(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + length]), data[8 + length:]


def write_shard(path, header, payload):
    text = json.dumps(header).encode()
    path.unlink()  # a link to the demo model's file
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)


class BadModelTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="winnow-model-")))
        for file in DEMO.iterdir():
            os.symlink(file, self.folder / file.name)
        self.shard = self.folder / SHARD

    def assert_refuses(self, *words, programs=("winnow-prefill-worker", "winnow-decode-worker"), flags=()):
        for name in programs:
            with self.subTest(program=name):
                child = subprocess.run([BIN / name, f"--model={self.folder}", "--listen=127.0.0.1:0", *flags],
                                       capture_output=True, text=True, timeout=60, check=False)
                self.assertEqual(child.returncode, 1, child.stderr)
                self.assertNotIn("ready on", child.stderr)
                for word in words:
                    self.assertIn(word, child.stderr)

    def replace(self, name, text):
        (self.folder / name).unlink()
        (self.folder / name).write_text(text, encoding="utf-8")

    def test_a_profile_by_flag(self):
        prefill = ("winnow-prefill-worker",)
        self.assert_refuses("--claa", "'windo'", programs=prefill, flags=['--claa={"windo": 3}'])
        self.assert_refuses("window must be in", programs=prefill, flags=['--claa={"window": 0}'])
        self.assert_refuses("--device", "'tpu'", flags=["--device=tpu"])

    def test_a_truncated_file(self):
        data = self.shard.read_bytes()
        self.shard.unlink()
        self.shard.write_bytes(data[:-1000])
        self.assert_refuses(SHARD)

    def test_a_missing_tensor(self):
        header, payload = read_header(self.shard)
        name = next(key for key in header if key.endswith("k_proj.weight"))
        header[name.replace("k_proj", "other_proj")] = header.pop(name)
        write_shard(self.shard, header, payload)
        self.assert_refuses(name)

    def test_a_tensor_of_the_wrong_shape(self):
        header, payload = read_header(self.shard)
        name = next(key for key in header if key.endswith("o_proj.weight"))
        rows, columns = header[name]["shape"]
        header[name]["shape"] = [rows * 2, columns // 2]
        write_shard(self.shard, header, payload)
        self.assert_refuses(name, str(rows * 2), str(rows))

    def test_a_missing_shard(self):
        self.shard.unlink()
        self.assert_refuses(SHARD)

    def test_an_invalid_profile(self):
        for text, words in (('{"window": 8', ("claa.json",)),
                            ('{"pool_kernel": 4}', ("pool_kernel", "odd", "4")),
                            ('{"keep_ratio": 0}', ("keep_ratio", "(0, 1]")),
                            ('{"selection_layer": 11}', ("selection_layer", "11")),
                            ('{"windw": 8}', ("windw",))):
            with self.subTest(text=text):
                self.replace("claa.json", text)
                self.assert_refuses(*words)

    def test_no_folder(self):
        self.folder = self.folder / "nowhere"
        self.assert_refuses("nowhere")


if __name__ == "__main__":
    unittest.main()
