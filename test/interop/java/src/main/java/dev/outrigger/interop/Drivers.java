// SPDX-License-Identifier: Apache-2.0
// Media drivers inside a serving peer, with Aeron's own debug endpoints where datagrams shall be lost.
package dev.outrigger.interop;

import io.aeron.driver.MediaDriver;
import io.aeron.driver.ThreadingMode;
import io.aeron.driver.ext.DebugChannelEndpointConfiguration;
import io.aeron.driver.ext.DebugReceiveChannelEndpoint;
import io.aeron.driver.ext.DebugSendChannelEndpoint;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.agrona.ErrorHandler;

final class Drivers {
    private Drivers() {
    }

    // `dir`, `rx-data-loss`, `rx-control-loss`, `tx-data-loss`, `tx-control-loss` (0 to 1), `seed`; every other key that starts with "aeron."
    // is a property of a stock driver. Properties are of the process, so one driver is made at a time.
    static synchronized MediaDriver launch(final Options options, final ErrorHandler errorHandler) {
        final List<String> set = new ArrayList<>();
        try {
            for (final Map.Entry<String, String> entry : options.all().entrySet()) {
                if (entry.getKey().startsWith("aeron.")) {
                    System.setProperty(entry.getKey(), entry.getValue());
                    set.add(entry.getKey());
                }
            }
            final long seed = options.number("seed", 1);
            final MediaDriver.Context context = new MediaDriver.Context()
                .aeronDirectoryName(options.text("dir"))
                .dirDeleteOnStart(true)
                .dirDeleteOnShutdown(true)
                .errorHandler(errorHandler)
                .threadingMode(ThreadingMode.valueOf(options.text("threading", "SHARED")));
            if (options.has("rx-data-loss") || options.has("rx-control-loss")) {
                context.receiveChannelEndpointSupplier((channel, dispatcher, status, ctx) -> new DebugReceiveChannelEndpoint(
                    channel, dispatcher, status, ctx,
                    DebugChannelEndpointConfiguration.lossGeneratorSupplier(options.fraction("rx-data-loss"), seed),
                    DebugChannelEndpointConfiguration.lossGeneratorSupplier(options.fraction("rx-control-loss"), seed + 1)));
            }
            if (options.has("tx-data-loss") || options.has("tx-control-loss")) {
                context.sendChannelEndpointSupplier((channel, status, ctx) -> new DebugSendChannelEndpoint(
                    channel, status, ctx,
                    DebugChannelEndpointConfiguration.lossGeneratorSupplier(options.fraction("tx-data-loss"), seed + 2),
                    DebugChannelEndpointConfiguration.lossGeneratorSupplier(options.fraction("tx-control-loss"), seed + 3)));
            }
            return MediaDriver.launch(context);
        } finally {
            set.forEach(System::clearProperty);
        }
    }
}
