#include "pressroom_http.h"

#include <stdio.h>
#include <string.h>

typedef pressroom_http_answer_t answer_t;

static answer_t no_answer(const char *why) {
    answer_t answer = {0};
    snprintf(answer.text, sizeof answer.text, "%s", why);
    return answer;
}

static answer_t failed(wasi_http_types_error_code_t *code) {
    answer_t answer = {0};
    answer.denied = code->tag == WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_DENIED ||
                    code->tag == WASI_HTTP_TYPES_ERROR_CODE_DESTINATION_IP_PROHIBITED;
    if (answer.denied) {
        snprintf(answer.text, sizeof answer.text, "it is not granted; the host's log says what to add to the grant");
    } else if (code->tag == WASI_HTTP_TYPES_ERROR_CODE_INTERNAL_ERROR && code->val.internal_error.is_some) {
        pressroom_string_t *text = &code->val.internal_error.val;
        snprintf(answer.text, sizeof answer.text, "%.*s", (int)text->len, (const char *)text->ptr);
    } else {
        snprintf(answer.text, sizeof answer.text, "no answer: case %d of wasi:http/types#error-code", code->tag);
    }
    wasi_http_types_error_code_free(code);
    return answer;
}

static bool set_header(wasi_http_types_own_fields_t fields, const char *name, const char *text) {
    pressroom_string_t key;
    pressroom_string_set(&key, name);
    wasi_http_types_field_value_t value = {(uint8_t *)text, strlen(text)};
    wasi_http_types_header_error_t error;
    return wasi_http_types_method_fields_append(wasi_http_types_borrow_fields(fields), &key, &value, &error);
}

// The request, or false where `url` is no address.
static bool prepare(const char *url, wasi_http_types_own_fields_t fields, wasi_http_types_own_outgoing_request_t *made) {
    wasi_http_types_scheme_t scheme = {0};
    if (strncmp(url, "http://", 7) == 0) {
        scheme.tag = WASI_HTTP_TYPES_SCHEME_HTTP;
        url += 7;
    } else if (strncmp(url, "https://", 8) == 0) {
        scheme.tag = WASI_HTTP_TYPES_SCHEME_HTTPS;
        url += 8;
    } else {
        wasi_http_types_fields_drop_own(fields);
        return false;
    }
    pressroom_string_t authority = {(uint8_t *)url, strcspn(url, "/?#")}, path;
    pressroom_string_set(&path, url[authority.len] == '/' ? url + authority.len : "/");
    wasi_http_types_method_t method = {.tag = WASI_HTTP_TYPES_METHOD_POST};
    *made = wasi_http_types_constructor_outgoing_request(fields); // takes the fields
    wasi_http_types_borrow_outgoing_request_t request = wasi_http_types_borrow_outgoing_request(*made);
    bool fits = wasi_http_types_method_outgoing_request_set_method(request, &method) &&
                wasi_http_types_method_outgoing_request_set_scheme(request, &scheme) &&
                wasi_http_types_method_outgoing_request_set_authority(request, &authority) &&
                wasi_http_types_method_outgoing_request_set_path_with_query(request, &path);
    if (!fits) {
        wasi_http_types_outgoing_request_drop_own(*made);
    }
    return fits;
}

// What is left of an error of a stream is dropped: the answer says more.
static void forget(wasi_io_streams_stream_error_t *error) {
    if (error->tag == WASI_IO_STREAMS_STREAM_ERROR_LAST_OPERATION_FAILED) {
        wasi_io_error_error_drop_own(error->val.last_operation_failed);
    }
}

// Hands the body over, and says whether all of it was taken: a server may answer before.
static bool send_body(wasi_http_types_own_outgoing_body_t sink, const uint8_t *body, size_t length) {
    wasi_http_types_own_output_stream_t stream;
    if (!wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(sink), &stream)) {
        return false;
    }
    wasi_io_streams_borrow_output_stream_t out = wasi_io_streams_borrow_output_stream(stream);
    wasi_io_poll_own_pollable_t ready = wasi_io_streams_method_output_stream_subscribe(out);
    wasi_io_streams_stream_error_t error;
    bool taken = true;
    while (length > 0 && taken) {
        uint64_t room;
        wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(ready));
        taken = wasi_io_streams_method_output_stream_check_write(out, &room, &error);
        if (taken) {
            pressroom_list_u8_t part = {(uint8_t *)body, room < length ? (size_t)room : length};
            taken = wasi_io_streams_method_output_stream_write(out, &part, &error);
            body += part.len;
            length -= part.len;
        }
    }
    if (!taken) {
        forget(&error);
    }
    wasi_io_poll_pollable_drop_own(ready);
    wasi_io_streams_output_stream_drop_own(stream);
    return taken;
}

// Reads as much of the body as `answer` has room for; the host discards the rest.
static void read_body(wasi_http_types_own_incoming_response_t response, answer_t *answer) {
    wasi_http_types_own_incoming_body_t body;
    wasi_http_types_own_input_stream_t stream;
    if (!wasi_http_types_method_incoming_response_consume(wasi_http_types_borrow_incoming_response(response), &body)) {
        return;
    }
    if (wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body), &stream)) {
        size_t have = 0;
        pressroom_list_u8_t part;
        wasi_io_streams_stream_error_t error;
        bool more = true;
        while (more && have < sizeof answer->text - 1) {
            more = wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(stream),
                                                                     sizeof answer->text - 1 - have, &part, &error);
            if (more) {
                memcpy(answer->text + have, part.ptr, part.len);
                have += part.len;
                pressroom_list_u8_free(&part);
            } else {
                forget(&error);
            }
        }
        answer->text[have] = 0;
        wasi_io_streams_input_stream_drop_own(stream);
    }
    wasi_http_types_incoming_body_drop_own(body);
}

answer_t pressroom_http_post(const char *url, const char *content_type, const uint8_t *body, size_t length) {
    char size[24];
    snprintf(size, sizeof size, "%zu", length);
    wasi_http_types_own_fields_t fields = wasi_http_types_constructor_fields();
    if (!set_header(fields, "content-type", content_type) || !set_header(fields, "content-length", size)) {
        wasi_http_types_fields_drop_own(fields);
        return no_answer("the headers cannot be sent");
    }
    wasi_http_types_own_outgoing_request_t request;
    if (!prepare(url, fields, &request)) {
        return no_answer("the address is not of the kind http://host/path");
    }
    wasi_http_types_own_outgoing_body_t sink;
    wasi_http_types_method_outgoing_request_body(wasi_http_types_borrow_outgoing_request(request), &sink);
    wasi_http_types_own_future_incoming_response_t future;
    wasi_http_types_error_code_t code;
    if (!wasi_http_outgoing_handler_handle(request, NULL, &future, &code)) {
        wasi_http_types_outgoing_body_drop_own(sink);
        return failed(&code);
    }
    if (!send_body(sink, body, length)) {
        wasi_http_types_outgoing_body_drop_own(sink);
    } else if (!wasi_http_types_static_outgoing_body_finish(sink, NULL, &code)) {
        wasi_http_types_error_code_free(&code);
    }
    wasi_http_types_borrow_future_incoming_response_t waiting = wasi_http_types_borrow_future_incoming_response(future);
    wasi_io_poll_own_pollable_t answered = wasi_http_types_method_future_incoming_response_subscribe(waiting);
    wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(answered));
    wasi_io_poll_pollable_drop_own(answered);
    wasi_http_types_result_result_own_incoming_response_error_code_void_t got;
    bool there = wasi_http_types_method_future_incoming_response_get(waiting, &got) && !got.is_err;
    wasi_http_types_future_incoming_response_drop_own(future);
    if (!there) {
        return no_answer("the answer is not there");
    }
    if (got.val.ok.is_err) {
        return failed(&got.val.ok.val.err);
    }
    answer_t answer = {0};
    wasi_http_types_own_incoming_response_t response = got.val.ok.val.ok;
    answer.status = wasi_http_types_method_incoming_response_status(wasi_http_types_borrow_incoming_response(response));
    read_body(response, &answer);
    wasi_http_types_incoming_response_drop_own(response);
    return answer;
}

// The host takes nothing but UTF-8, and a server may have sent anything, or the end of a letter may be cut off.
static void make_utf8(char *text) {
    for (uint8_t *at = (uint8_t *)text; *at;) {
        size_t follow = *at < 0x80 ? 0 : *at >= 0xc2 && *at < 0xe0 ? 1 : *at >= 0xe1 && *at < 0xf0 && *at != 0xed ? 2 : 4;
        size_t have = 0;
        while (have < follow && (at[1 + have] & 0xc0) == 0x80) {
            have++;
        }
        if (have < follow || follow == 4) {
            *at = '?'; // no letter, or one that hardly any text has
            follow = 0;
        }
        at += 1 + follow;
    }
}

bool pressroom_http_accepted(const answer_t *answer, exports_pressroom_publisher_publisher_publish_error_t *err) {
    int status = answer->status;
    if (status >= 200 && status < 300) {
        return true;
    }
    char text[320];
    snprintf(text, sizeof text, status ? "the server answered %d: %s" : "%.0d%s", status, answer->text);
    make_utf8(text);
    pressroom_string_t why;
    pressroom_string_dup(&why, text); // the bindings free what they hand over
    if (answer->denied || status == 401 || status == 403 || status == 404) {
        err->tag = EXPORTS_PRESSROOM_PUBLISHER_PUBLISHER_PUBLISH_ERROR_HOLD;
        err->val.hold = why;
    } else if (status == 0 || status == 408 || status == 425 || status == 429 || status >= 500) {
        err->tag = EXPORTS_PRESSROOM_PUBLISHER_PUBLISHER_PUBLISH_ERROR_RETRY;
        err->val.retry.reason = why;
        err->val.retry.after_ms.is_some = false;
    } else {
        err->tag = EXPORTS_PRESSROOM_PUBLISHER_PUBLISHER_PUBLISH_ERROR_REJECT;
        err->val.reject = why;
    }
    return false;
}
