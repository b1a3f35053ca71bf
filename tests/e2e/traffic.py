"""Many requests at a time, each compared with what a quiet cluster answered."""

import concurrent.futures
import random
import threading
import time

from harness import RequestError, make_document

DOCUMENTS = [make_document(tokens=tokens, facts=4, seed=seed)
             for seed, tokens in enumerate((120, 250, 400, 550, 700))]
MAX_TOKENS = 24


class Request:
    """One that was made: when, and how it ended."""

    def __init__(self, document, policy):
        self.document, self.policy = document, policy
        self.begin = self.end = 0.0
        self.result = self.error = None

    def run(self, cluster):
        self.begin = time.monotonic()
        try:
            self.result = cluster.generate(prompt=self.document.prompt, policy=self.policy,
                                           max_tokens=MAX_TOKENS, ignore_eos=True)
        except RequestError as error:
            self.error = error
        self.end = time.monotonic()
        return self

    def __repr__(self):
        return f"{self.policy} of {len(self.document.prompt)} bytes, {self.begin:.2f} to {self.end:.2f}: {self.error}"


class Traffic:
    """`clients` ask one request after the other, drawn from a seed, until `stop` or `count` of them."""

    def __init__(self, cluster, clients=4, seed=1):
        self.cluster, self.clients = cluster, clients
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.requests = []
        self.stopping = threading.Event()
        self.expected = {key: Request(*key).run(cluster) for key in self.kinds()}

    @staticmethod
    def kinds():
        return [(document, policy) for document in DOCUMENTS for policy in ("full", "claa")]

    def one(self, kinds):
        with self.lock:
            request = Request(*self.random.choice(kinds))
            self.requests.append(request)
        return request.run(self.cluster)

    def run(self, count=None, seconds=None, meanwhile=None, kinds=None):
        """Until `count` requests were made, `seconds` passed, or `meanwhile()` returned. `kinds`: all."""
        kinds = kinds or self.kinds()
        self.stopping.clear()
        begin, left = time.monotonic(), iter(range(count)) if count else None

        def ask():
            while not self.stopping.is_set() and (seconds is None or time.monotonic() - begin < seconds):
                with self.lock:
                    if left is not None and next(left, None) is None:
                        return
                if self.one(kinds).error is not None:
                    time.sleep(0.3)

        with concurrent.futures.ThreadPoolExecutor(self.clients) as pool:
            running = [pool.submit(ask) for _ in range(self.clients)]
            try:
                if meanwhile is not None:
                    meanwhile()
            finally:
                if meanwhile is not None:
                    self.stopping.set()
            for each in running:
                each.result()

    def failed(self):
        return [request for request in self.requests if request.error is not None]

    def wrong(self):
        """Requests that were answered, but not as on a quiet cluster."""
        def differs(request):
            expected = self.expected[request.document, request.policy]
            return request.result["token_ids"] != expected.result["token_ids"]
        return [request for request in self.requests if request.result is not None and differs(request)]
