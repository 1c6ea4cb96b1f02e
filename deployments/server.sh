#!/usr/bin/env bash
# Prefect's server and UI. On loopback, unless HOST says otherwise and there is an authentication string.
#   HOST=0.0.0.0 PORT=4200 PREFECT_SERVER_API_AUTH_STRING=name:secret make server
set -euo pipefail
cd "$(dirname "$0")/.."
host=${HOST:-127.0.0.1}
case "$host" in
127.* | localhost | ::1) ;;
*)
    if [ -z "${PREFECT_SERVER_API_AUTH_STRING:-}" ]; then
        echo "error: on $host everybody could start runs; set PREFECT_SERVER_API_AUTH_STRING=name:secret" >&2
        exit 2
    fi
    ;;
esac
# Nothing phones home, and a restart of the server does not end the runs that hold a concurrency limit.
export PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1
export PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem
# The UI asks the server that it came from: from another machine or through a proxy no other address is right.
export PREFECT_UI_API_URL="${PREFECT_UI_API_URL:-/api}"
# A page of another server, open in a browser on this machine, must not give this one work to do.
export PREFECT_SERVER_CSRF_PROTECTION_ENABLED=true
export PREFECT_SERVER_CORS_ALLOWED_ORIGINS="${PREFECT_SERVER_CORS_ALLOWED_ORIGINS:-http://$host:${PORT:-4200}}"
# Runs, their logs and their tables go after a year; Prefect keeps them for ever.
export PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED="${PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED:-events,flow_runs}"
export PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD="${PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD:-31536000}"
exec "${VENV:-.venv}/bin/python" -m tasks.processes.prefect_server --host "$host" --port "${PORT:-4200}"
