"""CPU workloads, run as they are in a guest and in native CPython. Each defines `work()`; its result is compared."""

from typing import Final

FIRST_FOUR: Final = ("sum", "nbody", "json", "regex")
"""The ones whose geometric mean is the headline figure."""

WORKLOADS: Final[dict[str, str]] = {
    "sum": """
def work():
    return sum(i * i for i in range(1_000_000))
""",
    "nbody": """
SUN_MASS = 39.47841760435743
BODIES = [
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, SUN_MASS],
    [4.84143144246472, -1.16032004402742, -0.10362204447112, 0.606326392995832, 2.81198684491626, -0.02521836165988, 0.03769367487039],
    [8.34336671824458, 4.1247985641243, -0.40352341711432, -1.01077434617879, 1.82566237123041, 0.00841576137658, 0.01128632613197],
    [12.8943695621391, -15.1111514016986, -0.22330757889265, 1.08279100644153, 0.868713018169608, -0.0108326374013636, 0.00172372405706],
    [15.3796971148509, -25.9193146099879, 0.17925877295037, 0.97909073224389, 0.594698998647676, -0.034755955627, 0.00203368686992],
]

def work(steps=3000, dt=0.01):
    bodies = [list(body) for body in BODIES]
    for _ in range(steps):
        for i in range(5):
            a = bodies[i]
            for j in range(i + 1, 5):
                b = bodies[j]
                dx = a[0] - b[0]; dy = a[1] - b[1]; dz = a[2] - b[2]
                square = dx * dx + dy * dy + dz * dz
                pull = dt / (square * square ** 0.5)
                m = b[6] * pull
                a[3] -= dx * m; a[4] -= dy * m; a[5] -= dz * m
                m = a[6] * pull
                b[3] += dx * m; b[4] += dy * m; b[5] += dz * m
        for body in bodies:
            body[0] += dt * body[3]; body[1] += dt * body[4]; body[2] += dt * body[5]
    return round(bodies[1][0], 6)
""",
    "json": """
import json
DATA = {"items": [{"id": i, "name": "n%d" % i, "tags": ["a", "b", "c"], "v": i * 1.5} for i in range(200)]}

def work():
    return sum(len(json.loads(json.dumps(DATA))["items"]) for _ in range(25))
""",
    "regex": """
import re
TEXT = "The quick brown fox 123 jumps over 456 lazy dogs; mail a.b@c.org or x_y@z.net. " * 200

def work():
    n = 0
    for _ in range(10):
        n += len(re.findall("[a-z]+", TEXT))
        n += len(re.sub("[0-9]+", "#", TEXT).split())
        n += TEXT.upper().count("FOX") + len(TEXT.replace("fox", "cat"))
    return n
""",
    "fib": """
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def work():
    return fib(23)
""",
    "sort": """
import random
NUMBERS = random.Random(1)
NUMBERS = [NUMBERS.random() for _ in range(60_000)]

def work():
    return round(sum(sorted(NUMBERS)[::1000]), 9)
""",
    "strings": """
def work():
    return len("".join(str(i) + "," for i in range(120_000)).split(","))
""",
    "classes": """
class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def moved(self, dx):
        return Point(self.x + dx, self.y)

    @property
    def norm(self):
        return self.x * self.x + self.y * self.y

def work():
    return sum(Point(i, 1).moved(2).norm for i in range(60_000))
""",
}
