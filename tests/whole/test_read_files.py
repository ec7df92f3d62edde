"""What builds of the sample read: boards that read a file, and files of a series that no board reads."""

import json

#: What the series changes and a board without LED and serial port does not read.
UNREAD = "arch/sandbox/cpu/sandbox/spl.c drivers/led.c drivers/serial_sunfish.c"


def test_a_series_of_which_no_board_reads_a_part_is_said_to_be_one_wherever_its_outcome_is_told(farm):
    farm.machines(local=True)
    series = ("--branch", "series", "--only", "wren")
    line = f"no board that was built reads {UNREAD}"
    ended = farm.build(*series)
    assert ended.status == 0, ended
    assert ended.out.splitlines().count(line) == 1
    assert farm.build(*series, "--summary").out.splitlines().count(line) == 1
    where = ("--source", str(farm.source), "--output", str(farm.output))
    assert line in farm.run("summary", *where).out.splitlines()
    told = json.loads(farm.run("summary", *where, "--json").out)
    assert told["unread"] == {
        "files": UNREAD.split(),
        "known": 1,
        "boards": 1,
        "would": {"drivers/serial_sunfish.c": {"setting": "CONFIG_SERIAL_SUNFISH=y", "boards": []}},
    }
    assert "drivers/serial_sunfish.c needs CONFIG_SERIAL_SUNFISH=y, which no defconfig has" in ended.out
    assert farm.run("report", *where).status == 0
    assert line.capitalize()[:20] in (farm.output / "series" / "report.html").read_text()
    current = farm.build("--only", "wren")
    assert "no board" not in current.out

    boards = ("boards", "--source", str(farm.source), "--fields", "target")
    ended = farm.run(*boards, "--reading", "lib/string.c", "--only", "wren,tern")
    assert (ended.status, ended.out) == (0, "wren\n")
    assert "of 1 board nothing is known: build it first" in ended.err
    ended = farm.run(*boards, "--reading", "drivers/led.c", "--only", "wren")
    assert (ended.status, ended.out) == (0, "")
    assert "none of 1 board reads drivers/led.c" in ended.err
