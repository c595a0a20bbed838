
set edit:completion:arg-completer[qctl] = { |@words|
    var index = (count $words)
    set index = (- $index 1)

    put (env _CLAP_IFS="\n" _CLAP_COMPLETE_INDEX=(to-string $index) QCTL_COMPLETE="elvish" qctl -- $@words) | to-lines
}

