# Completion of racerd for bash. Generated from the declarations in src/cmd and src/config; see src/cmd/packaging.rs.

_racerd_commands="serve check-config print-config health send tail backup restore check salvage rekey keygen pin token help version"
_racerd_settings="--listen --open --host --allow-origin --trusted-proxy --encrypted-rooms --guests --access-file --auth-wait --tls-cert --tls-key --tls-self-signed --plain-listen --sealed-key --require-sealed --data --durability --on-damage --scrub-rate --data-key-file --page-size --commit-delay --max-database-size --keep-messages --keep-for --rooms-max --parked-max --park-for --memory --max-message-size --max-fragments --max-head-size --body-depth --queue-bytes --reply-bytes --in-flight --append-bytes --rooms-per-session --detached-max --tail-bytes --tail-bytes-total --max-connections --max-connections-per-address --presence-max --page-bytes --read-budget --delivery-budget --room-delivery-rate --reads-in-flight --request-rate --request-burst --request-rate-per-address --control-rate --room-rate-per-address --room-rate --error-budget --handshake-rate-per-address --handshake-rate --write-wait --pong-wait --ping-period --header-timeout --keep-alive --resume-within --drain-timeout --log-level --log-format --sandbox --config"
_racerd_topics="serve check-config print-config health send tail backup restore check salvage rekey keygen pin token help version settings listen open host allow-origin trusted-proxy encrypted-rooms guests access-file auth-wait tls-cert tls-key tls-self-signed plain-listen sealed-key require-sealed data durability on-damage scrub-rate data-key-file page-size commit-delay max-database-size keep-messages keep-for rooms-max parked-max park-for memory max-message-size max-fragments max-head-size body-depth queue-bytes reply-bytes in-flight append-bytes rooms-per-session detached-max tail-bytes tail-bytes-total max-connections max-connections-per-address presence-max page-bytes read-budget delivery-budget room-delivery-rate reads-in-flight request-rate request-burst request-rate-per-address control-rate room-rate-per-address room-rate error-budget handshake-rate-per-address handshake-rate write-wait pong-wait ping-period header-timeout keep-alive resume-within drain-timeout log-level log-format sandbox"

_racerd_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

_racerd_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

# Prints the options of a command.
_racerd_options() {
    case $1 in
        serve) echo "--check-config --print-config --help --version $_racerd_settings" ;;
        check-config) echo "--help --version $_racerd_settings" ;;
        print-config) echo "--help --version" ;;
        health) echo "--ca --help --version $_racerd_settings" ;;
        send) echo "--name --room-key --token --key --json --pin --ca --timeout --help --version" ;;
        tail) echo "--last --follow --json --name --room-key --token --pin --ca --timeout --help --version" ;;
        backup) echo "--force --help --version $_racerd_settings" ;;
        restore) echo "--help --version $_racerd_settings" ;;
        check) echo "--help --version $_racerd_settings" ;;
        salvage) echo "--help --version $_racerd_settings" ;;
        rekey) echo "--new-key --plain --help --version $_racerd_settings" ;;
        keygen) echo "--data --help --version" ;;
        pin) echo "--url --help --version $_racerd_settings" ;;
        token) echo "--name --grant --admin --help --version" ;;
        help) echo "--help --version" ;;
        version) echo "--help --version" ;;
    esac
}

# Completes the value of the option $2 of the command $1; fails where it has none.
_racerd_value() {
    case $1:$2 in
        serve:--check-config) return 1 ;;
        serve:--print-config) return 1 ;;
        serve:--help) return 1 ;;
        serve:--version) return 1 ;;
        check-config:--help) return 1 ;;
        check-config:--version) return 1 ;;
        print-config:--help) return 1 ;;
        print-config:--version) return 1 ;;
        health:--ca) _racerd_files "$3" ;;
        health:--help) return 1 ;;
        health:--version) return 1 ;;
        send:--name) ;;
        send:--room-key) ;;
        send:--token) ;;
        send:--key) ;;
        send:--json) return 1 ;;
        send:--pin) ;;
        send:--ca) _racerd_files "$3" ;;
        send:--timeout) ;;
        send:--help) return 1 ;;
        send:--version) return 1 ;;
        tail:--last) ;;
        tail:--follow) return 1 ;;
        tail:--json) return 1 ;;
        tail:--name) ;;
        tail:--room-key) ;;
        tail:--token) ;;
        tail:--pin) ;;
        tail:--ca) _racerd_files "$3" ;;
        tail:--timeout) ;;
        tail:--help) return 1 ;;
        tail:--version) return 1 ;;
        backup:--force) return 1 ;;
        backup:--help) return 1 ;;
        backup:--version) return 1 ;;
        restore:--help) return 1 ;;
        restore:--version) return 1 ;;
        check:--help) return 1 ;;
        check:--version) return 1 ;;
        salvage:--help) return 1 ;;
        salvage:--version) return 1 ;;
        rekey:--new-key) _racerd_files "$3" ;;
        rekey:--plain) return 1 ;;
        rekey:--help) return 1 ;;
        rekey:--version) return 1 ;;
        keygen:--data) return 1 ;;
        keygen:--help) return 1 ;;
        keygen:--version) return 1 ;;
        pin:--url) return 1 ;;
        pin:--help) return 1 ;;
        pin:--version) return 1 ;;
        token:--name) ;;
        token:--grant) ;;
        token:--admin) return 1 ;;
        token:--help) return 1 ;;
        token:--version) return 1 ;;
        help:--help) return 1 ;;
        help:--version) return 1 ;;
        version:--help) return 1 ;;
        version:--version) return 1 ;;
        print-config:* | send:* | tail:* | keygen:* | token:* | help:* | version:*) return 1 ;;
        *:--listen) ;;
        *:--open) return 1 ;;
        *:--host) ;;
        *:--allow-origin) ;;
        *:--trusted-proxy) ;;
        *:--encrypted-rooms) ;;
        *:--guests) _racerd_words "auto all read none" "$3" ;;
        *:--access-file) _racerd_files "$3" ;;
        *:--auth-wait) ;;
        *:--tls-cert) _racerd_files "$3" ;;
        *:--tls-key) _racerd_files "$3" ;;
        *:--tls-self-signed) _racerd_files "$3" ;;
        *:--plain-listen) ;;
        *:--sealed-key) _racerd_files "$3" ;;
        *:--require-sealed) return 1 ;;
        *:--data) _racerd_files "$3" ;;
        *:--durability) _racerd_words "full normal memory" "$3" ;;
        *:--on-damage) _racerd_words "stop salvage" "$3" ;;
        *:--scrub-rate) ;;
        *:--data-key-file) _racerd_files "$3" ;;
        *:--page-size) _racerd_words "1KiB 2KiB 4KiB" "$3" ;;
        *:--commit-delay) ;;
        *:--max-database-size) ;;
        *:--keep-messages) ;;
        *:--keep-for) ;;
        *:--rooms-max) ;;
        *:--parked-max) ;;
        *:--park-for) ;;
        *:--memory) ;;
        *:--max-message-size) ;;
        *:--max-fragments) ;;
        *:--max-head-size) ;;
        *:--body-depth) ;;
        *:--queue-bytes) ;;
        *:--reply-bytes) ;;
        *:--in-flight) ;;
        *:--append-bytes) ;;
        *:--rooms-per-session) ;;
        *:--detached-max) ;;
        *:--tail-bytes) ;;
        *:--tail-bytes-total) ;;
        *:--max-connections) ;;
        *:--max-connections-per-address) ;;
        *:--presence-max) ;;
        *:--page-bytes) ;;
        *:--read-budget) ;;
        *:--delivery-budget) ;;
        *:--room-delivery-rate) ;;
        *:--reads-in-flight) ;;
        *:--request-rate) ;;
        *:--request-burst) ;;
        *:--request-rate-per-address) ;;
        *:--control-rate) ;;
        *:--room-rate-per-address) ;;
        *:--room-rate) ;;
        *:--error-budget) ;;
        *:--handshake-rate-per-address) ;;
        *:--handshake-rate) ;;
        *:--write-wait) ;;
        *:--pong-wait) ;;
        *:--ping-period) ;;
        *:--header-timeout) ;;
        *:--keep-alive) ;;
        *:--resume-within) ;;
        *:--drain-timeout) ;;
        *:--log-level) _racerd_words "error warn info debug" "$3" ;;
        *:--log-format) _racerd_words "text json" "$3" ;;
        *:--sandbox) _racerd_words "on off" "$3" ;;
        *:--config) _racerd_files "$3" ;;
        *) return 1 ;;
    esac
}

_racerd() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=serve
    COMPREPLY=()
    # bash splits --name=value at the =.
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if [[ $COMP_CWORD -eq 1 && $current != -* ]]; then
        _racerd_words "$_racerd_commands" "$current"
        return
    fi
    if [[ ${COMP_WORDS[1]} != -* ]]; then command=${COMP_WORDS[1]}; fi
    if _racerd_value "$command" "$previous" "$current"; then return; fi
    if [[ $current == -* ]]; then
        _racerd_words "$(_racerd_options "$command")" "$current"
        return
    fi
    case $command in
        backup | restore | check | salvage | rekey | keygen) _racerd_files "$current" ;;
        help) _racerd_words "$_racerd_topics" "$current" ;;
    esac
}

complete -F _racerd racerd
