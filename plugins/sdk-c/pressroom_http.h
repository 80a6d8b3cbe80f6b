// HTTP out of a plugin, through the host: to the targets that the operator's `grant.http` names, and nowhere else.
// Credentials that the operator injects are added by the host. No redirect is followed.
#ifndef PRESSROOM_HTTP_H
#define PRESSROOM_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pressroom.h"

typedef struct {
    int status;     // 200, for instance; 0 if there is no answer
    bool denied;    // the operator has not granted it
    char text[256]; // the beginning of the answer's body, or why there is none
} pressroom_http_answer_t;

// Sends `body` to `url` (http://host:port/path) and waits for the answer.
pressroom_http_answer_t pressroom_http_post(const char *url, const char *content_type, const uint8_t *body, size_t length);

// True where the status is of the kind 2xx. Otherwise `err` says what it means for a batch: what was not granted, 401, 403
// and 404 a hold, no answer, 408, 425, 429 and 5xx a retry, any other a reject.
bool pressroom_http_accepted(const pressroom_http_answer_t *answer, exports_pressroom_publisher_publisher_publish_error_t *err);

#endif
