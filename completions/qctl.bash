# Completion of qctl in bash: asks qctl itself, which knows the names of the configuration.
_qctl() {
    local reply line=${COMP_LINE:0:${COMP_POINT:-${#COMP_LINE}}}
    COMPREPLY=()
    while IFS= read -r reply; do
        [[ -n $reply ]] && COMPREPLY+=("$reply")
    done <<< "$(QCTL_COMPLETE=bash QCTL_COMPLETE_LINE=$line QCTL_COMPLETE_BREAKS=$COMP_WORDBREAKS qctl -- qctl 2> /dev/null)"
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace 2> /dev/null
    fi
    return 0
}
complete -o bashdefault -o nosort -F _qctl qctl 2> /dev/null || complete -o bashdefault -F _qctl qctl
