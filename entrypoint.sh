#!/bin/sh
# The first argument decides: a configuration file is served, a command of the registry is run
# by it, and anything else (a shell, say) runs as it stands.
set -e

case "${1:-}" in
    *.yml | *.yaml) exec registry serve "$@" ;;
    serve | backup | config | explain | fsck | garbage-collect | health | help | migrate | restore | -*)
        exec registry "$@"
        ;;
    *) exec "$@" ;;
esac
