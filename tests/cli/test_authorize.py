"""A person's consent, begun and taken back from a terminal."""

from tests.cli.conftest import CommandLine, Playback

BEGUN = {
    "connection": "mail",
    "url": "https://id.example/authorize?client_id=shop&state=s1",
    "expires_at": "2026-01-31T12:10:00.000Z",
    "redirect_uri": "https://hooks.school.example/oauth/callback",
}


def test_authorize_prints_the_address_alone_and_explains_beside(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(BEGUN)

    ended = command("authorize", "mail")

    assert ended.exit_code == 0
    assert ended.stdout == f"{BEGUN['url']}\n"
    assert "in 10 min" in ended.stderr
    assert BEGUN["redirect_uri"] in ended.stderr
    assert [(one.method, one.path) for one in daemon.asked] == [
        ("POST", "/v1/connections/mail/authorize")
    ]


def test_authorize_as_json_prints_what_came(command: CommandLine, daemon: Playback) -> None:
    daemon.play(BEGUN)

    ended = command("authorize", "mail", "--json")

    assert '"redirect_uri"' in ended.stdout
    assert not ended.stderr


def test_authorize_revoke_says_whether_the_provider_has_voided_it(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play({"connection": "mail", "revoked": True})
    daemon.play({"connection": "mail", "revoked": False})

    voided, gone = (command("authorize", "mail", "--revoke") for _ in range(2))

    assert "has voided its token" in voided.stdout
    assert "its token is gone" in gone.stdout
    assert daemon.asked[0].path == "/v1/connections/mail/authorization"


def test_authorize_sends_no_name_as_another_path(command: CommandLine, daemon: Playback) -> None:
    daemon.play(BEGUN)

    command("authorize", "../keys?x#y")

    assert daemon.asked[0].path == "/v1/connections/..%2Fkeys%3Fx%23y/authorize"
