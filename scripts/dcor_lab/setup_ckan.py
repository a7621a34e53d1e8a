"""Make database, users and tokens of a new CKAN in one process: `setup_ckan.py CKAN_INI TOKENS_JSON`.

Users are `admin` (a system administrator), `uploader` and `other` (plain users).
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from ckan import model
from ckan.cli import load_config
from ckan.config.middleware import make_app
from ckan.plugins.toolkit import get_action

USERS = ("admin", "uploader", "other")


def main(ini: str, tokens: str) -> None:
    """Fill the database that the configuration names and write the tokens of the users."""
    logging.disable(logging.INFO)
    app = make_app(load_config(ini))
    made = {}
    with app._wsgi_app.test_request_context():
        model.repo.init_db()
        site = get_action("get_site_user")({"ignore_auth": True}, {})["name"]
        for name in USERS:
            user = {"name": name, "email": f"{name}@example.com", "password": f"{name}-password"}
            get_action("user_create")({"ignore_auth": True, "user": site}, user)
            if name == "admin":
                model.User.get(name).sysadmin = True
                model.repo.commit()
            answer = get_action("api_token_create")(
                {"ignore_auth": True, "user": name}, {"user": name, "name": "lab"}
            )
            made[name] = answer["token"]
    path = Path(tokens)
    path.touch(mode=0o600)
    path.write_text(json.dumps(made))


if __name__ == "__main__":
    main(*sys.argv[1:])
