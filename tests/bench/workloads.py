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
SUN_MASS = 39.478417604
BODIES = [
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, SUN_MASS],
    [4.841431442, -1.160320044, -0.103622044, 0.606326392, 2.811986844, -0.025218361, 0.037693674],
    [8.343366718, 4.124798564, -0.403523417, -1.010774346, 1.825662371, 0.008415761, 0.011286326],
    [12.894369562, -15.111151401, -0.223307578, 1.082791006, 0.868713018, -0.010832637, 0.001723724],
    [15.379697114, -25.919314609, 0.179258772, 0.979090732, 0.594698998, -0.034755955, 0.002033686],
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
