// A plugin that forwards: every batch, as JSON lines, in one POST to the setting "url".
#include <stdlib.h>
#include <string.h>

#include "pressroom.h"
#include "pressroom_http.h"

static bool hold(pressroom_string_t why, exports_pressroom_publisher_publisher_publish_error_t *err) {
    err->tag = EXPORTS_PRESSROOM_PUBLISHER_PUBLISHER_PUBLISH_ERROR_HOLD;
    err->val.hold = why;
    return false;
}

static bool forward(pressroom_list_u8_t *lines, exports_pressroom_publisher_publisher_list_unpublished_t *ret,
                    exports_pressroom_publisher_publisher_publish_error_t *err) {
    pressroom_string_t key, set, why;
    pressroom_string_set(&key, "url");
    if (!pressroom_publisher_config_get(&key, &set)) {
        pressroom_list_u8_free(lines);
        pressroom_string_dup(&why, "config: \"url\" is missing: where to forward to");
        return hold(why, err);
    }
    char *url = calloc(1, set.len + 1);
    memcpy(url, set.ptr, set.len);
    pressroom_http_answer_t answer = pressroom_http_post(url, "application/x-ndjson", lines->ptr, lines->len);
    free(url);
    pressroom_string_free(&set);
    pressroom_list_u8_free(lines);
    ret->ptr = NULL; // no row was left out: the host forgets them all
    ret->len = 0;
    return pressroom_http_accepted(&answer, err);
}

bool exports_pressroom_publisher_publisher_publish_event_metrics(
    exports_pressroom_publisher_publisher_borrow_event_batch_t events,
    exports_pressroom_publisher_publisher_list_unpublished_t *ret,
    exports_pressroom_publisher_publisher_publish_error_t *err) {
    pressroom_string_t format, why;
    pressroom_list_u8_t lines; // rendered by the host, at native speed
    pressroom_string_set(&format, "json-lines");
    return pressroom_publisher_batches_method_event_batch_encode(events, &format, &lines, &why)
               ? forward(&lines, ret, err)
               : hold(why, err);
}

bool exports_pressroom_publisher_publisher_publish_network_metrics(
    exports_pressroom_publisher_publisher_borrow_network_batch_t operations,
    exports_pressroom_publisher_publisher_list_unpublished_t *ret,
    exports_pressroom_publisher_publisher_publish_error_t *err) {
    pressroom_string_t format, why;
    pressroom_list_u8_t lines;
    pressroom_string_set(&format, "json-lines");
    return pressroom_publisher_batches_method_network_batch_encode(operations, &format, &lines, &why)
               ? forward(&lines, ret, err)
               : hold(why, err);
}

// Before anything else, once per instance; false refuses the plugin, and `err` says why.
bool exports_pressroom_publisher_lifecycle_start(pressroom_string_t *err) {
    (void)err;
    return true;
}

// At the configured interval, and before the instance goes: nothing is held back here.
bool exports_pressroom_publisher_lifecycle_flush(exports_pressroom_publisher_lifecycle_publish_error_t *err) {
    (void)err;
    return true;
}
