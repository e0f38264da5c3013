"""What the app's own start script does besides migrating: the settings row and the first administrators.

Fed on standard input to the image's own Python after a migration. Says in one line what it did, to the file
descriptor TT_AGENT_RESULT_FD. Models that the app does not have are passed over.
"""

import json
import os
import sys


def add_settings_row(session, models):
    settings = getattr(models, "Settings", None)
    if settings is None:
        return "no settings model"
    if session.query(settings).first() is not None:
        return "settings row present"
    # The app's own way to its defaults, under the names it has had.
    own_way = getattr(settings, "get_settings", None) or getattr(settings, "get", None)
    row = own_way() if callable(own_way) else settings()
    if session.query(settings).first() is None:
        session.add(row)
    session.commit()
    return "settings row added"


def make_administrators(session, models):
    user = getattr(models, "User", None)
    names = [name.strip().lower() for name in os.environ.get("ADMIN_USERNAMES", "").split(",") if name.strip()]
    if user is None or not hasattr(user, "username") or not hasattr(user, "role"):
        return "no user model with a role"
    changed = []
    for name in names:
        # Only accounts that exist: how one is created, with which password, is the app's own business.
        found = session.query(user).filter_by(username=name).first()
        if found is not None and found.role != "admin":
            found.role = "admin"
            changed.append(name)
    session.commit()
    return "administrators made: " + ", ".join(changed) if changed else "no administrator to make"


def first_line(error):
    return (str(error).splitlines() or [""])[0]


def main():
    descriptor = int(os.environ.pop("TT_AGENT_RESULT_FD"))
    from app import create_app, db

    done = []
    succeeded = True
    with create_app().app_context():
        import app

        models = getattr(app, "models", app)
        for step in (add_settings_row, make_administrators):
            try:
                done.append(step(db.session, models))
            except Exception as error:  # Tolerant: the site may well run without it.
                db.session.rollback()
                succeeded = False
                done.append("%s: %s: %s" % (step.__name__, type(error).__name__, first_line(error)))
    with os.fdopen(descriptor, "w", encoding="utf-8") as result:
        json.dump({"succeeded": succeeded, "message": "; ".join(done)}, result)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if succeeded else 1)


main()
