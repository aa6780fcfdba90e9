// SPDX-License-Identifier: Apache-2.0
// Just enough JSON to answer one request in one line.
package dev.outrigger.interop;

import java.util.List;

final class Json {
    private final StringBuilder text = new StringBuilder("{");

    Json put(final String key, final long value) {
        return raw(key, Long.toString(value));
    }

    // Beyond 2^53 a JSON number loses digits in the reader: as text.
    Json putWide(final String key, final long value) {
        return put(key, Long.toString(value));
    }

    Json put(final String key, final boolean value) {
        return raw(key, Boolean.toString(value));
    }

    Json put(final String key, final String value) {
        return raw(key, value == null ? "null" : quote(value));
    }

    Json put(final String key, final List<Json> values) {
        final StringBuilder list = new StringBuilder("[");
        for (int i = 0; i < values.size(); i++) {
            list.append(i == 0 ? "" : ",").append(values.get(i));
        }
        return raw(key, list.append("]").toString());
    }

    Json putTexts(final String key, final List<String> values) {
        final StringBuilder list = new StringBuilder("[");
        for (int i = 0; i < values.size(); i++) {
            list.append(i == 0 ? "" : ",").append(quote(values.get(i)));
        }
        return raw(key, list.append("]").toString());
    }

    @Override
    public String toString() {
        return text + "}";
    }

    private Json raw(final String key, final String value) {
        if (text.length() > 1) {
            text.append(',');
        }
        text.append(quote(key)).append(':').append(value);
        return this;
    }

    private static String quote(final String value) {
        final StringBuilder quoted = new StringBuilder("\"");
        for (int i = 0; i < value.length(); i++) {
            final char c = value.charAt(i);
            if (c == '"' || c == '\\') {
                quoted.append('\\').append(c);
            } else if (c < 0x20) {
                quoted.append(String.format("\\u%04x", (int) c));
            } else {
                quoted.append(c);
            }
        }
        return quoted.append('"').toString();
    }
}
