// SPDX-License-Identifier: Apache-2.0
// The module: what sidecar/src/native/index.ts finds in outrigger.node. One set of data an environment, so that it loads in any number of workers.
#include "addon/bindings.h"
#include "addon/conversions.h"
#include "cnc/mpsc_ring.h"

namespace outrigger::addon {
namespace {

// cnc.dat of a directory, for reading only: no command, no doorbell, no trace in the driver.
struct ReadOnlyCnc {
  MappedFile file;
  cnc::CncRegions regions;
};

bool openReadOnly(const Napi::CallbackInfo& info, ReadOnlyCnc& cnc) {
  const std::string path = textOf(info[0]) + "/" + cnc::kCncFileName;
  auto file = MappedFile::open(path, false);
  if (!file) {
    throwJsError(info.Env(), "DRIVER_UNAVAILABLE", file.error().message + "; start the driver, or name its directory");
    return false;
  }
  cnc.file = file.take();
  auto regions = cnc::mapRegions(cnc.file, path);
  if (!regions) {
    throwJsError(info.Env(), "DRIVER_UNAVAILABLE", regions.error().message);
    return false;
  }
  cnc.regions = regions.take();
  return true;
}

Napi::Value readCounters(const Napi::CallbackInfo& info) {
  ReadOnlyCnc cnc;
  if (!openReadOnly(info, cnc)) return info.Env().Undefined();
  return toJs(info.Env(), cnc::readCounters(cnc.regions));
}

Napi::Value readErrors(const Napi::CallbackInfo& info) {
  ReadOnlyCnc cnc;
  if (!openReadOnly(info, cnc)) return info.Env().Undefined();
  return toJs(info.Env(), cnc::ErrorLog::read(cnc.regions.errorLog));
}

Napi::Value readLossReport(const Napi::CallbackInfo& info) {
  ReadOnlyCnc cnc;
  if (!openReadOnly(info, cnc)) return info.Env().Undefined();
  return toJs(info.Env(), readLosses(textOf(info[0])));
}

Napi::Value readDriver(const Napi::CallbackInfo& info) {
  ReadOnlyCnc cnc;
  if (!openReadOnly(info, cnc)) return info.Env().Undefined();
  return driverToJs(info.Env(), cnc.regions.pid, cnc.regions.startTimestampMs, cnc::MpscRing(cnc.regions.toDriver).consumerHeartbeatMs());
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  auto* data = new AddonData();
  env.SetInstanceData<AddonData>(data);
  const Napi::Function client = ClientBinding::define(env);
  data->client = Napi::Persistent(client);
  data->publication = Napi::Persistent(PublicationBinding::define(env));
  data->subscription = Napi::Persistent(SubscriptionBinding::define(env));
  exports.Set("Client", client);
  exports.Set("readCounters", Napi::Function::New<readCounters>(env, "readCounters"));
  exports.Set("readErrors", Napi::Function::New<readErrors>(env, "readErrors"));
  exports.Set("readLosses", Napi::Function::New<readLossReport>(env, "readLosses"));
  exports.Set("readDriver", Napi::Function::New<readDriver>(env, "readDriver"));
  return exports;
}

}  // namespace

AddonData& addonData(Napi::Env env) { return *env.GetInstanceData<AddonData>(); }

NODE_API_MODULE(NODE_GYP_MODULE_NAME, initialise)

}  // namespace outrigger::addon
