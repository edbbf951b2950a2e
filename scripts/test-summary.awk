# Sums what `cargo test` printed: libtest's and libtest-mimic's result lines, and those of the conformance runner.
# Names every suite that failed or was skipped as a whole.

# `Running tests/node.rs (target/debug/deps/node-0123)`, `Doc-tests weir_model`
/^ +Running / { suite = $0; sub(/^ +Running /, "", suite) }
/^ +Doc-tests / { suite = "doc-tests of " $2 }

/^test result: / {
    passed += $4; failed += $6; ignored += $8
    if ($3 != "ok.") bad[++bads] = suite
}
/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ {
    passed += $1; failed += $3; ignored += $5
    if ($3 > 0) bad[++bads] = suite
}
/^\*\*\* .*SKIPPED/ { skipped[++skips] = substr($0, 5) }
/^error(\[E[0-9]+\])?: could not compile/ { bad[++bads] = $0 }

END {
    print "----------------------------------------------------------------------"
    for (n = 1; n <= skips; n++) print "SKIPPED  " skipped[n]
    for (n = 1; n <= bads; n++) print "FAILED   " bad[n]
    printf "%d passed, %d failed, %d ignored or skipped%s\n", passed, failed, ignored, skips ? ", " skips " whole suites skipped" : ""
}
