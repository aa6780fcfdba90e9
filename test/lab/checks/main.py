# SPDX-License-Identifier: Apache-2.0
"""The checks of `make test-lab`, run in the lab VM: main.py [--list] [NAME...]. One line for each: "ok NAME" or "not ok NAME: why"; lines that
begin with "#" say what is going on. A check that depends on one that failed fails with that one's reason."""
import sys
import traceback

import dpdk
import netem
import queues
import uring
import verbs
import vlan
import xdp
from world import Failure

kGroups = (dpdk, xdp, uring, netem, verbs, vlan, queues)


def main(arguments: list[str]) -> int:
    if "--list" in arguments:
        print("\n".join(name for group in kGroups for name, _ in group.checks()))
        return 0
    wanted = [argument for argument in arguments if not argument.startswith("-")]
    bad = 0
    for group in kGroups:
        chosen = [(name, check) for name, check in group.checks() if not wanted or any(word in name for word in wanted)]
        if not chosen:
            continue
        world, trouble = None, ""
        try:
            world = group.World()
            world.open()
        except Exception as error:  # whatever went wrong is the checks' reason
            trouble = describe(error)
        for name, check in chosen:
            print(f"# {name}", flush=True)
            why = trouble
            if not why:
                try:
                    check(world)
                except Exception as error:
                    why = describe(error)
            print(f"not ok {name}: {why}" if why else f"ok {name}", flush=True)
            bad += bool(why)
        if world is not None:
            try:
                world.close()
            except Exception as error:
                print(f"# {group.__name__}: {describe(error)}", flush=True)
    return 1 if bad else 0


def describe(error: Exception) -> str:
    text = str(error) if isinstance(error, Failure) else "".join(traceback.format_exception(error))
    return text.strip().replace("\n", " | ")


sys.exit(main(sys.argv[1:]))
