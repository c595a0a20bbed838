//! Workers that do what they should not. No message is lost, none is blamed for another one, nothing hangs.

use crate::ground::{AT_ONCE, drain, handle, notes, nothing_left, queue, ready, scripted};

#[test]
fn noise_on_standard_output_is_logged_and_passed_over() {
    let place = scripted(
        r#"
line("Notice: starting up")
ready()
for request in requests():
    line("PHP Notice: undefined index")
    line('{"id": 1, "result": "not JSON-RPC"}')
    line("[1, 2")
    answer(request)
"#,
        "",
        "",
    );
    queue(&place, "jobs", &["a", "b"]);
    let run = drain(&place, "jobs");
    assert!(run.stderr.contains("PHP Notice: undefined index"), "{}", run.stderr);
    assert!(run.stderr.contains("(2 done, 0 not)"), "{}", run.stderr);
}

#[test]
fn an_answer_to_another_request_and_a_second_answer_are_passed_over() {
    let place = scripted(
        r#"
ready()
for request in requests():
    say(id=request["id"] + 1000, result="wrong")
    answer(request)
    answer(request)
"#,
        "pipeline: 1",
        "",
    );
    queue(&place, "jobs", &["a", "b", "c"]);
    let run = drain(&place, "jobs");
    assert!(run.stderr.contains("(3 done, 0 not)"), "{}", run.stderr);
    assert!(
        run.stderr.contains("an answer to a request that it does not have"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_worker_that_never_answers_is_replaced_and_only_its_message_is_blamed() {
    let place = scripted(
        r#"
ready()
for request in requests():
    if body(request) == "stuck":
        note("stuck")
        time.sleep(600)
    note(body(request))
    answer(request)
"#,
        "timeout: 300ms",
        "retry: { attempts: 2, min: 1ms, max: 1ms }",
    );
    let bodies = ["a", "b", "c", "stuck", "d", "e", "f"];
    queue(&place, "jobs", &bodies);
    let run = drain(&place, "jobs");
    let mut seen = notes(&place);
    seen.sort();
    assert_eq!(seen, ["a", "b", "c", "d", "e", "f", "stuck", "stuck"], "{}", run.stderr);
    assert_eq!(ready(&place, "jobs.dead"), 1, "{}", run.stderr);
    assert!(
        run.stderr.contains("timed out after 300ms (attempt 2 of 2)"),
        "{}",
        run.stderr
    );
    nothing_left(&place);
}

#[test]
fn a_crash_is_blamed_on_the_message_that_was_worked_on() {
    let place = scripted(
        r#"
ready()
for request in requests():
    if body(request) == "poison":
        note("poison")
        sys.stderr.write("about to die\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    note(body(request))
    answer(request)
"#,
        "",
        "retry: { attempts: 5, signals: 2, min: 1ms, max: 1ms }",
    );
    let bodies = ["a", "b", "c", "d", "poison", "e", "f", "g"];
    queue(&place, "jobs", &bodies);
    let run = drain(&place, "jobs");
    let mut seen = notes(&place);
    seen.sort();
    assert_eq!(
        seen,
        ["a", "b", "c", "d", "e", "f", "g", "poison", "poison"],
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("was killed by SIGSEGV before it answered"),
        "{}",
        run.stderr
    );
    let dead = place.json(["managequeue", "peek", "jobs.dead"]);
    let headers = &dead[0]["headers"];
    assert_eq!(headers["x-qctl-signal"], 11, "{dead}");
    assert_eq!(headers["x-qctl-stderr"], "about to die", "{dead}");
}

#[test]
fn a_crash_under_several_messages_is_found_out_by_giving_each_to_a_worker_alone() {
    let place = scripted(
        r#"
import threading
ready()
lock = threading.Lock()
def work(request):
    if body(request) == "poison":
        time.sleep(0.05)
        os._exit(3)
    time.sleep(0.3)
    with lock:
        note(body(request))
        answer(request)
for request in requests():
    threading.Thread(target=work, args=[request]).start()
"#,
        "workers: 1",
        "concurrency: 4
    retry: { attempts: 2, min: 1ms, max: 1ms }",
    );
    queue(&place, "jobs", &["a", "b", "poison", "c"]);
    let run = drain(&place, "jobs");
    let mut seen = notes(&place);
    seen.sort();
    assert_eq!(seen, ["a", "b", "c"], "{}", run.stderr);
    assert_eq!(ready(&place, "jobs.dead"), 1, "{}", run.stderr);
    assert!(run.stderr.contains("(3 done, 2 not)"), "{}", run.stderr);
}

#[test]
fn a_worker_that_dies_half_way_through_a_line_has_not_answered() {
    let place = scripted(
        r#"
ready()
for request in requests():
    note(body(request))
    if not os.path.exists("died"):
        open("died", "w").close()
        sys.stdout.write('{"jsonrpc": "2.0", "id": %d, "resu' % request["id"])
        sys.stdout.flush()
        os._exit(1)
    answer(request)
"#,
        "",
        AT_ONCE,
    );
    queue(&place, "jobs", &["a"]);
    let run = drain(&place, "jobs");
    assert_eq!(notes(&place), ["a", "a"], "{}", run.stderr);
    assert!(
        run.stderr.contains("exited with code 1 before it answered"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("(1 done, 1 not)"), "{}", run.stderr);
}

#[test]
fn an_answer_without_end_is_cut_off_in_bounded_memory() {
    let place = scripted(
        r#"
ready()
for request in requests():
    if body(request) == "flood":
        chunk = "x" * (1 << 20)
        sys.stdout.write('{"jsonrpc": "2.0", "id": %d, "result": "' % request["id"])
        for _ in range(100):
            sys.stdout.write(chunk)
        line('"}')
    else:
        answer(request)
"#,
        "",
        "retry: { attempts: 1 }",
    );
    queue(&place, "jobs", &["flood", "b"]);
    let run = drain(&place, "jobs");
    assert!(run.stderr.contains("a line that is too long"), "{}", run.stderr);
    assert!(run.stderr.contains("(1 done, 1 not)"), "{}", run.stderr);
    assert_eq!(ready(&place, "jobs.dead"), 1);
}

#[test]
fn an_answer_of_many_megabytes_is_read_whole() {
    let place = scripted(
        r#"
ready()
for request in requests():
    answer(request, "x" * (20 << 20))
"#,
        "",
        "",
    );
    queue(&place, "jobs", &["a"]);
    assert!(drain(&place, "jobs").stderr.contains("(1 done, 0 not)"));
}

#[test]
fn one_that_exits_in_good_order_between_two_messages_costs_neither() {
    let place = scripted(
        r"
ready()
for request in requests():
    note(body(request))
    answer(request)
    sys.exit(0)
",
        "",
        "",
    );
    queue(&place, "jobs", &["a", "b", "c"]);
    let run = drain(&place, "jobs");
    assert_eq!(notes(&place), ["a", "b", "c"], "{}", run.stderr);
    assert!(run.stderr.contains("(3 done, 0 not)"), "{}", run.stderr);
}

#[test]
fn a_message_that_makes_every_worker_exit_in_good_order_is_blamed_in_the_end() {
    let place = scripted(
        r"
ready()
for request in requests():
    note(body(request))
    sys.exit(0)
",
        "",
        "retry: { attempts: 1 }",
    );
    queue(&place, "jobs", &["a"]);
    let run = drain(&place, "jobs");
    assert_eq!(notes(&place), ["a", "a"], "{}", run.stderr);
    assert_eq!(ready(&place, "jobs.dead"), 1);
}

#[test]
fn a_worker_that_floods_its_standard_output_without_end_is_ended_by_the_time_out() {
    let place = scripted(
        r#"
ready()
for request in requests():
    while True:
        sys.stdout.write("noise\n" * 1000)
"#,
        "timeout: 300ms",
        "retry: { attempts: 1 }",
    );
    queue(&place, "jobs", &["a"]);
    let run = handle(&place, "jobs", 1);
    assert!(run.stderr.contains("timed out after 300ms"), "{}", run.stderr);
    assert!(
        run.stderr.len() < 200_000,
        "the log is bounded, and has {} bytes",
        run.stderr.len()
    );
    nothing_left(&place);
}

#[test]
fn a_worker_that_does_not_get_ready_ends_the_consumer_and_costs_no_message_an_attempt() {
    for (script, reason) in [
        ("sys.exit('no database')", "saying: no database"),
        ("time.sleep(600)", "it did not say within 100ms that it is ready"),
    ] {
        let place = scripted(script, "start_timeout: 100ms", "");
        queue(&place, "jobs", &["a"]);
        let run = place.run(["consumer", "jobs"]).code(72).any_stderr().check();
        assert!(run.stderr.contains(reason), "{}", run.stderr);
        let left = place.json(["managequeue", "peek", "jobs"]);
        assert_eq!(
            (left[0]["attempt"].as_i64(), ready(&place, "jobs")),
            (Some(0), 1),
            "{left}"
        );
        nothing_left(&place);
    }
}

#[test]
fn a_result_with_an_exit_code_is_judged_like_a_child() {
    let place = scripted(
        r#"
ready()
for request in requests():
    answer(request, {"exit_code": int(body(request)), "stderr": "because of " + body(request), "stdout": ""})
"#,
        "",
        "exit_codes: { 9: reject }",
    );
    queue(&place, "jobs", &["0", "9"]);
    drain(&place, "jobs");
    let dead = place.json(["managequeue", "peek", "jobs.dead"]);
    assert_eq!(dead[0]["headers"]["x-qctl-exit-code"], 9, "{dead}");
    assert_eq!(dead[0]["headers"]["x-qctl-stderr"], "because of 9", "{dead}");
    assert_eq!(ready(&place, "jobs.dead"), 1);
}

#[test]
fn what_an_error_says_of_trying_again_is_done() {
    let place = scripted(
        r#"
ready()
for request in requests():
    note(body(request))
    error = {"code": 1, "message": "oh\nno", "data": {}}
    if body(request) == "final":
        error["data"] = {"retry": False}
    if body(request) == "unknown":
        error["code"] = -32601
    say(id=request["id"], error=error)
"#,
        "",
        AT_ONCE,
    );
    queue(&place, "jobs", &["final", "unknown", "again"]);
    let run = drain(&place, "jobs");
    let mut seen = notes(&place);
    seen.sort();
    assert_eq!(seen, ["again", "again", "again", "final", "unknown"], "{}", run.stderr);
    assert_eq!(ready(&place, "jobs.dead"), 3);
}

#[test]
fn what_a_worker_asks_for_as_a_wait_is_kept() {
    let place = scripted(
        r#"
ready()
for request in requests():
    say(id=request["id"], error={"code": 1, "message": "later", "data": {"retry_after": 3600}})
"#,
        "",
        AT_ONCE,
    );
    queue(&place, "jobs", &["a"]);
    let run = drain(&place, "jobs");
    assert!(run.stderr.contains("retry_ms=3600000"), "{}", run.stderr);
}
