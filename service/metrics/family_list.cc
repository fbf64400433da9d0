#include "service/metrics/family_list.h"

#include <prometheus/text_serializer.h>

#include <limits>

namespace lorc {

prometheus::ClientMetric& FamilyList::Sample(const char* name, const char* help,
                                             prometheus::MetricType type, const Labels& labels) {
  if (families_.empty() || families_.back().name != name) {
    families_.push_back({name, help, type, {}});
  }
  prometheus::ClientMetric& metric = families_.back().metric.emplace_back();
  for (const auto& [label, value] : labels) metric.label.push_back({label, value});
  return metric;
}

void FamilyList::Gauge(const char* name, const char* help, double value, const Labels& labels) {
  Sample(name, help, prometheus::MetricType::Gauge, labels).gauge.value = value;
}

void FamilyList::Counter(const char* name, const char* help, double value, const Labels& labels) {
  Sample(name, help, prometheus::MetricType::Counter, labels).counter.value = value;
}

void FamilyList::Add(const char* name, const char* help, const Histogram& histogram) {
  const Histogram::Snapshot snapshot = histogram.Read();
  auto& out = Sample(name, help, prometheus::MetricType::Histogram, {}).histogram;
  out.sample_count = snapshot.count;
  out.sample_sum = snapshot.sum;
  for (size_t i = 0; i < snapshot.cumulative.size(); ++i) {
    out.bucket.push_back({snapshot.cumulative[i], histogram.bounds()[i]});
  }
  out.bucket.push_back({snapshot.count, std::numeric_limits<double>::infinity()});
}

std::string FamilyList::ToText() const { return prometheus::TextSerializer().Serialize(families_); }

}  // namespace lorc
