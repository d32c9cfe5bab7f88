"""What is in the sandbox image: the whole standard library, with what it needs to work."""

import ast

import pytest

from sandbox.engine.image_build import IMPORTS
from sandbox.runner import Job

pytestmark = pytest.mark.docker

WORKING = {
    "sqlite3": "import sqlite3\ndb = sqlite3.connect(':memory:')\ndb.execute('create table t (a)')\ndb.execute('insert into t values (7)')\nfound = db.execute('select a from t').fetchone()[0]",
    "sqlite3 in a file": "import sqlite3\nwith sqlite3.connect('/tmp/s.db') as db:\n    db.execute('create table t (a)')\n    db.execute('insert into t values (7)')\nfound = sqlite3.connect('/tmp/s.db').execute('select a from t').fetchone()[0]",
    "time zones": "import zoneinfo, datetime\nassert len(zoneinfo.available_timezones()) > 400\nthen = datetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo('Europe/Paris'))\nfound = 5 + then.utcoffset().seconds // 3600",
    "time zones of the C library": "import os, time\nos.environ['TZ'] = 'Asia/Tokyo'\ntime.tzset()\nfound = -time.timezone // 3600 - 2",
    "readline": "import readline\nreadline.parse_and_bind('tab: complete')\nfound = 7",
    "curses": "import curses\ncurses.setupterm('xterm', 1)\nfound = 7 if curses.tigetnum('colors') >= 8 else 0",
    "ensurepip": "import ensurepip\nfound = 7 if ensurepip.version() else 0",
    "dbm": "import dbm.gnu, dbm.ndbm\nwith dbm.gnu.open('/tmp/g', 'c') as db: db[b'a'] = b'7'\nwith dbm.ndbm.open('/tmp/n', 'c') as db: db[b'a'] = b'7'\nfound = int(dbm.ndbm.open('/tmp/n')[b'a'])",
    "who one is": "import getpass, os, pathlib, pwd\npathlib.Path('/tmp/mine').touch()\nassert getpass.getuser() == pathlib.Path('/tmp/mine').owner() == pwd.getpwuid(os.getuid()).pw_name == 'nobody'\nfound = 7",
    "a pool of processes": "import multiprocessing\nwith multiprocessing.Pool(3) as pool: found = sum(pool.map(abs, [-3, 4]))",
    "locks and queues of processes": """import multiprocessing as mp
lock, queue, count = mp.Lock(), mp.Queue(), mp.Value('i', 0)
def work():
    for _ in range(20):
        with lock: count.value += 1
    queue.put(1)
those = [mp.Process(target=work) for _ in range(3)]
for one in those: one.start()
total = sum(queue.get(timeout=5) for _ in those)
for one in those: one.join()
found = count.value - 53 if total == 3 else 0""",
    "executors of processes": "from concurrent.futures import ProcessPoolExecutor\nwith ProcessPoolExecutor(2) as pool: found = sum(pool.map(abs, [-3, 4]))",
}


async def test_every_module_of_the_standard_library_can_be_imported(runner):
    """The other build of the image runs the same program while it is built."""
    (execution,) = await runner.run([Job(source=IMPORTS.read_text() + "\nprint('all')", inputs=("",), mode="stdin")])
    assert [(run.status, run.value) for run in execution.runs] == [("ok", "all\n")], execution


@pytest.mark.parametrize("what", WORKING)
async def test_the_parts_of_it_that_need_more_than_python_work(runner, what):
    source = WORKING[what].replace("\n", "\n    ")
    (execution,) = await runner.run([Job(source=f"def f():\n    {source}\n    return found", inputs=("",))])
    assert execution.runs[0].status == "ok", execution
    assert ast.literal_eval(execution.runs[0].value) == 7
