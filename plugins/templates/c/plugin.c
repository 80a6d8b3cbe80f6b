// A plugin that forwards: every batch, as JSON lines, in one POST to the setting "url".
#include <stdlib.h>

#include "pressroom.h"
#include "pressroom_http.h"

static char *url;

// Before anything else, once per instance.
bool exports_pressroom_publisher_lifecycle_start(pressroom_string_t *err) {
    pressroom_string_t key, set;
    pressroom_string_set(&key, "url");
    if (!pressroom_publisher_config_get(&key, &set)) {
        pressroom_string_dup(err, "config: \"url\" is missing: where to forward to");
        return false;
    }
    url = calloc(1, set.len + 1);
    for (size_t i = 0; i < set.len; i++) {
        url[i] = (char)set.ptr[i];
    }
    pressroom_string_free(&set);
    return true;
}

static bool forward(pressroom_list_u8_t *lines, exports_pressroom_publisher_publisher_list_unpublished_t *ret,
                    exports_pressroom_publisher_publisher_publish_error_t *err) {
    pressroom_http_answer_t answer = pressroom_http_post(url, "application/x-ndjson", lines->ptr, lines->len);
    pressroom_list_u8_free(lines);
    ret->ptr = NULL; // no row was left out: the host forgets them all
    ret->len = 0;
    return pressroom_http_accepted(&answer, err);
}

// This host does not know the format: somebody must mend that.
static bool hold(pressroom_string_t why, exports_pressroom_publisher_publisher_publish_error_t *err) {
    err->tag = EXPORTS_PRESSROOM_PUBLISHER_PUBLISHER_PUBLISH_ERROR_HOLD;
    err->val.hold = why;
    return false;
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

// At the configured interval, and before the instance goes: nothing is held back here.
bool exports_pressroom_publisher_lifecycle_flush(exports_pressroom_publisher_lifecycle_publish_error_t *err) {
    (void)err;
    return true;
}
