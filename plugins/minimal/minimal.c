// The least there is of a plugin in C: it counts rows and says at every flush how many there were.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pressroom.h"

#define FAILED PRESSROOM_PUBLISHER_RECORDS_EVENT_STATUS_FAILED

static struct {
    uint64_t events, failed, operations;
} counted;

// What each line begins with: the setting "prefix".
static char prefix[64] = "counted";

// Before anything else, once per instance. What the host hands over belongs to the plugin, which frees it.
bool exports_pressroom_publisher_lifecycle_start(pressroom_string_t *err) {
    pressroom_string_t key, set;
    pressroom_string_set(&key, "prefix");
    if (!pressroom_publisher_config_get(&key, &set)) {
        return true;
    }
    bool fits = set.len < sizeof prefix;
    if (fits) {
        memcpy(prefix, set.ptr, set.len);
        prefix[set.len] = 0;
    } else {
        // What the plugin hands over is freed by the bindings: a copy, not a literal.
        pressroom_string_dup(err, "config: \"prefix\" is longer than 63 bytes");
    }
    pressroom_string_free(&set);
    return fits;
}

// True: published, but for the rows in `ret`, of which there are none.
bool exports_pressroom_publisher_publisher_publish_event_metrics(
    exports_pressroom_publisher_publisher_borrow_event_batch_t events,
    exports_pressroom_publisher_publisher_list_unpublished_t *ret,
    exports_pressroom_publisher_publisher_publish_error_t *err) {
    (void)err;
    pressroom_publisher_batches_event_columns_t columns;
    pressroom_publisher_batches_method_event_batch_columns(events, &columns);
    counted.events += columns.status.len;
    for (size_t row = 0; row < columns.status.len; row++) {
        counted.failed += columns.status.ptr[row] == FAILED;
    }
    pressroom_publisher_batches_event_columns_free(&columns);
    ret->ptr = NULL;
    ret->len = 0;
    return true;
}

bool exports_pressroom_publisher_publisher_publish_network_metrics(
    exports_pressroom_publisher_publisher_borrow_network_batch_t operations,
    exports_pressroom_publisher_publisher_list_unpublished_t *ret,
    exports_pressroom_publisher_publisher_publish_error_t *err) {
    (void)err;
    counted.operations += pressroom_publisher_batches_method_network_batch_len(operations);
    ret->ptr = NULL;
    ret->len = 0;
    return true;
}

// At the configured interval, and before the instance goes.
bool exports_pressroom_publisher_lifecycle_flush(exports_pressroom_publisher_lifecycle_publish_error_t *err) {
    (void)err;
    char line[192];
    snprintf(line, sizeof line, "%s events=%" PRIu64 " failed=%" PRIu64 " operations=%" PRIu64, prefix,
             counted.events, counted.failed, counted.operations);
    pressroom_string_t message;
    pressroom_string_set(&message, line);
    pressroom_publisher_log_log(PRESSROOM_PUBLISHER_LOG_LEVEL_INFO, &message);
    return true;
}
