// Metric families under construction, in the form that prometheus-cpp serialises.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <utility>
#include <vector>

#include "service/metrics/histogram.h"

namespace lorc {

using Labels = std::vector<std::pair<std::string, std::string>>;

class FamilyList {
 public:
  // Samples of a name must follow each other; name, help and type are those of the first.
  void Gauge(const char* name, const char* help, double value, const Labels& labels = {});
  void Counter(const char* name, const char* help, double value, const Labels& labels = {});
  void Add(const char* name, const char* help, const Histogram& histogram);

  // The text exposition format, version 0.0.4.
  std::string ToText() const;

 private:
  prometheus::ClientMetric& Sample(const char* name, const char* help, prometheus::MetricType type,
                                   const Labels& labels);

  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace lorc
