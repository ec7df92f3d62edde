"""What a reply needs is read back as it was written."""

from fabbuild.source.patches import record
from fabbuild.source.patches.apply import apply_mails
from tests.source.patches.conftest import put


def test_the_record_has_what_a_reply_needs(shared_topic, posted, tmp_path):
    made = apply_mails(shared_topic.source, str(put(tmp_path / "mails", posted)))
    record.write(tmp_path, made)
    found = record.read(tmp_path)
    assert (found.subject, found.version, found.base, found.named) == (
        made.series.subject, 1, made.commits[0].hash, "HEAD",
    )  # fmt: skip
    assert list(found.patches) == [commit.hash for commit in made.commits[1:]]
    assert found.first == found.cover
    assert found.cover.subject == "[PATCH 0/3] *** SUBJECT HERE ***"
    for one, posted_one in zip(found.patches.values(), made.series.patches, strict=True):
        assert one.references == (found.cover.message_id,)
        assert one.to == "list@sand.example"
        assert (one.message_id, one.author, one.subject, one.date) == (
            posted_one.mail.message_id, posted_one.mail.author, posted_one.mail.subject, posted_one.mail.date,
        )  # fmt: skip


def test_what_is_no_record_is_none(tmp_path):
    assert record.read(tmp_path) is None
    for text in ("", "[]", '{"subject": 1}', '{"subject": "", "version": "x"}'):
        (tmp_path / record.NAME).write_text(text)
        assert record.read(tmp_path) is None
